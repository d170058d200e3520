package anchor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Dial connects to address on the overlay. The network is "tcp", "tcp4", "tcp6", "udp", "udp4"
// or "udp6"; the address is "host:port", where host is a peer's name ("bob" or "bob.anchor"),
// overlay address or anchor id. A name is dialled by its IPv6 address unless the network asks
// for IPv4.
//
// Dial starts the node if need be, and waits within ctx for the Master, for the peer to be in
// the directory, and for a session with it; a name that the directory does not hold is given
// up after Config.LookupWait with ErrUnknownName. A refused connection gives
// syscall.ECONNREFUSED. ctx bounds the dialling, not the connection. Errors are *net.OpError.
//
// TCP connections have CloseWrite. A UDP connection sends and receives datagrams of up to
// 65,507 (IPv4) or 65,527 (IPv6) bytes.
func (n *Node) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := n.dial(ctx, network, address)
	if err != nil {
		return nil, opError("dial", network, address, err)
	}
	return c, nil
}

func (n *Node) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := checkNetwork(network); err != nil {
		return nil, err
	}
	host, port, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	t, err := n.parseTarget(host)
	if err != nil {
		return nil, err
	}
	p, err := n.running(ctx)
	if err != nil {
		return nil, err
	}
	ctx, stop := p.bound(ctx)
	defer stop()
	addr, err := p.reach(ctx, network, t)
	if err != nil {
		return nil, err
	}
	if isUDP(network) {
		return p.stack.DialUDP(ctx, netip.AddrPortFrom(addr, port))
	}
	return p.dialTCP(ctx, netip.AddrPortFrom(addr, port))
}

// reach resolves a target and waits until messages to it can be sent.
func (p *pipeline) reach(ctx context.Context, network string, t target) (netip.Addr, error) {
	if t.self {
		return family(network, t, p.node.cert)
	}
	r, err := p.find(ctx, t)
	if err != nil {
		return netip.Addr{}, err
	}
	if err := p.admitted(r.Certificate); err != nil {
		return netip.Addr{}, err
	}
	addr, err := family(network, t, r.Certificate)
	if err != nil {
		return netip.Addr{}, err
	}
	if err := p.streams.Ready(ctx, r.ID()); err != nil {
		return netip.Addr{}, fmt.Errorf("reach %s: %w", t.text, err)
	}
	return addr, nil
}

// dialTCP connects, and tries again while the way to the peer is lost in the middle of the
// handshake: only ctx and the peer's own answer end a Dial.
func (p *pipeline) dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	for {
		c, err := p.stack.DialTCP(ctx, to)
		if err == nil || !isUnreachable(err) || ctx.Err() != nil {
			return c, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// bound returns a context that also ends, with net.ErrClosed, when the node closes.
func (p *pipeline) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.life, func() { cancel(net.ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Ping sends one ICMP echo request to a peer, named as in Dial, and returns the round-trip
// time. It waits as Dial does, and for the answer as long as ctx allows.
func (n *Node) Ping(ctx context.Context, host string) (time.Duration, error) {
	rtt, err := n.ping(ctx, host)
	if err != nil {
		return 0, opError("ping", "ip", host, err)
	}
	return rtt, nil
}

func (n *Node) ping(ctx context.Context, host string) (time.Duration, error) {
	t, err := n.parseTarget(host)
	if err != nil {
		return 0, err
	}
	p, err := n.running(ctx)
	if err != nil {
		return 0, err
	}
	ctx, stop := p.bound(ctx)
	defer stop()
	addr, err := p.reach(ctx, "ip", t)
	if err != nil {
		return 0, err
	}
	return p.stack.Ping(ctx, addr)
}

// WhoIs tells whose certificate is behind an overlay address: the RemoteAddr of a connection,
// the sender of a datagram, a *net.TCPAddr, *net.UDPAddr or *net.IPAddr, or any other that
// prints as "ip:port" or "ip". It does not ask the Master: it knows the peers that this node
// has sessions with. An address of nobody known gives an error.
func (n *Node) WhoIs(addr net.Addr) (Peer, error) {
	a, err := overlayAddr(addr)
	if err != nil {
		return Peer{}, fmt.Errorf("anchor: who is: %w", err)
	}
	if a == n.cert.IPv6 || a == n.cert.IPv4 {
		return peerOf(n.cert), nil
	}
	n.mu.Lock()
	p := n.pipeline
	n.mu.Unlock()
	if p == nil {
		return Peer{}, fmt.Errorf("anchor: who is %s: node is not running: %w", a, net.ErrClosed)
	}
	c, ok := p.whois(a)
	if !ok {
		return Peer{}, fmt.Errorf("anchor: who is %s: no peer with that address is known", a)
	}
	return peerOf(c), nil
}

func overlayAddr(addr net.Addr) (netip.Addr, error) {
	if addr == nil {
		return netip.Addr{}, fmt.Errorf("address is nil")
	}
	if ap, err := netip.ParseAddrPort(addr.String()); err == nil {
		return ap.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(addr.String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", addr)
	}
	return a.Unmap(), nil
}
