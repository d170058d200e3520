package anchor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Listen announces on an overlay address. The network is "tcp", "tcp4" or "tcp6"; the address
// is "host:port", where host is empty for all of the node's addresses, one of them, or the
// node's own name, and port 0 chooses a free one. "tcp" without a host listens on IPv4 and IPv6
// with one listener.
//
// Listen starts the node if need be, within Config.StartTimeout. Errors are *net.OpError; a
// port in use gives syscall.EADDRINUSE, an address that is not the node's
// syscall.EADDRNOTAVAIL.
func (n *Node) Listen(network, address string) (net.Listener, error) {
	l, err := n.listen(network, address)
	if err != nil {
		return nil, opError("listen", network, address, err)
	}
	return l, nil
}

func (n *Node) listen(network, address string) (net.Listener, error) {
	if err := checkNetwork(network); err != nil || isUDP(network) {
		return nil, net.UnknownNetworkError(network)
	}
	at, err := n.localAddr(network, address)
	if err != nil {
		return nil, err
	}
	p, err := n.started()
	if err != nil {
		return nil, err
	}
	return p.stack.ListenTCP(network, at)
}

// ListenPacket is Listen for datagrams; the network is "udp", "udp4" or "udp6". A datagram of
// up to 65,507 (IPv4) or 65,527 (IPv6) bytes is sent and received whole; reading one into a
// shorter buffer cuts that one only. What the reader does not take in time is dropped as by a
// kernel's socket, and counted apart from the node's own stages.
func (n *Node) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := n.listenPacket(network, address)
	if err != nil {
		return nil, opError("listen", network, address, err)
	}
	return c, nil
}

func (n *Node) listenPacket(network, address string) (net.PacketConn, error) {
	if err := checkNetwork(network); err != nil || !isUDP(network) {
		return nil, net.UnknownNetworkError(network)
	}
	at, err := n.localAddr(network, address)
	if err != nil {
		return nil, err
	}
	p, err := n.started()
	if err != nil {
		return nil, err
	}
	return p.stack.ListenUDP(network, at)
}

// localAddr parses an address to listen on; the zero Addr means all.
func (n *Node) localAddr(network, address string) (netip.AddrPort, error) {
	host, port, err := splitAddress(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		return netip.AddrPortFrom(netip.Addr{}, port), nil
	}
	if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
		return netip.AddrPortFrom(a, port), nil
	}
	t, err := n.parseTarget(host)
	if err != nil || !t.self {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address of this node: %w", host, syscall.EADDRNOTAVAIL)
	}
	a, err := family(network, t, n.cert)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(a, port), nil
}

func checkNetwork(network string) error {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
		return nil
	}
	return net.UnknownNetworkError(network)
}

func isUDP(network string) bool { return len(network) >= 3 && network[:3] == "udp" }

// isUnreachable reports whether an error says that there is no way to the peer at the moment.
func isUnreachable(err error) bool {
	return errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

// opError is the one place where errors of the network calls get their shape.
func opError(op, network, address string, err error) error {
	var known *net.OpError
	if errors.As(err, &known) && known.Op == op {
		return err
	}
	return &net.OpError{Op: op, Net: network, Addr: textAddr{network, address}, Err: err}
}

// textAddr is an address as the user wrote it.
type textAddr struct{ network, address string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.address }
