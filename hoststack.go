package anchor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/veil-net/anchor/netstack"
)

// hostStack dials and listens with the host's own stack, bound to the overlay addresses that
// the packet device has.
type hostStack struct{ addrs []netip.Addr }

// own returns the overlay address of the family of a.
func (s *hostStack) own(a netip.Addr) (netip.Addr, error) {
	for _, o := range s.addrs {
		if o.Is4() == a.Is4() {
			return o, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("this node has no address of the family of %s: %w", a, syscall.EADDRNOTAVAIL)
}

func (s *hostStack) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	from, err := s.own(to.Addr())
	if err != nil {
		return nil, err
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	return d.DialContext(ctx, "tcp", to.String())
}

func (s *hostStack) DialUDP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	from, err := s.own(to.Addr())
	if err != nil {
		return nil, err
	}
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	return d.DialContext(ctx, "udp", to.String())
}

// bind picks the one address to listen on: a wildcard would listen outside of the overlay.
func (s *hostStack) bind(network string, at netip.AddrPort) (netip.AddrPort, error) {
	if at.Addr().IsValid() && !at.Addr().IsUnspecified() {
		if !slices.Contains(s.addrs, at.Addr()) {
			return at, syscall.EADDRNOTAVAIL
		}
		return at, nil
	}
	want4 := network[len(network)-1] == '4'
	for _, a := range s.addrs {
		if a.Is4() == want4 {
			return netip.AddrPortFrom(a, at.Port()), nil
		}
	}
	return at, syscall.EADDRNOTAVAIL
}

// ListenTCP listens on one address: IPv6 unless the network asks for IPv4.
func (s *hostStack) ListenTCP(network string, at netip.AddrPort) (net.Listener, error) {
	at, err := s.bind(network, at)
	if err != nil {
		return nil, err
	}
	return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
}

func (s *hostStack) ListenUDP(network string, at netip.AddrPort) (net.PacketConn, error) {
	at, err := s.bind(network, at)
	if err != nil {
		return nil, err
	}
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
}

// Quiesce does nothing: the host's connections are its own.
func (s *hostStack) Quiesce(context.Context) error { return nil }

// ResetPeer does nothing: the peer's own stack answers old segments with a reset.
func (s *hostStack) ResetPeer(netip.Addr) {}

// SetGate does nothing: the host's writers wait for its own queues.
func (s *hostStack) SetGate(netstack.Gate) {}

// Ping sends an echo request by a raw socket, which needs the privilege that a kernel device
// needs too.
func (s *hostStack) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	from, err := s.own(to)
	if err != nil {
		return 0, err
	}
	network, request, reply, proto := "ip6:ipv6-icmp", icmp.Type(ipv6.ICMPTypeEchoRequest), icmp.Type(ipv6.ICMPTypeEchoReply), 58
	if to.Is4() {
		network, request, reply, proto = "ip4:icmp", ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, 1
	}
	c, err := icmp.ListenPacket(network, from.String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	body := &icmp.Echo{ID: int(rand.Uint32() & 0xffff), Seq: 1, Data: make([]byte, 56)}
	binary.BigEndian.PutUint64(body.Data, rand.Uint64()) // tells this request from others with its id
	m, err := (&icmp.Message{Type: request, Body: body}).Marshal(nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := c.WriteTo(m, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return 0, err
		}
		got, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || got.Type != reply {
			continue
		}
		if e, ok := got.Body.(*icmp.Echo); ok && e.ID == body.ID && string(e.Data) == string(body.Data) {
			return time.Since(began), nil
		}
	}
}
