package anchor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/veil-net/anchor/netstack"
)

// stack is the IP stack that a node's connections live in: the in-process one, or the host's
// own when packets come from a kernel device.
type stack interface {
	DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	DialUDP(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// ListenTCP and ListenUDP bind to an own address, or to all of them if at has none.
	ListenTCP(network string, at netip.AddrPort) (net.Listener, error)
	ListenUDP(network string, at netip.AddrPort) (net.PacketConn, error)
	Ping(ctx context.Context, to netip.Addr) (time.Duration, error)
	// Quiesce closes listeners and waits until TCP connections have delivered what was written
	// to them and have ended.
	Quiesce(ctx context.Context) error
	// ResetPeer ends the TCP connections with a peer that has started anew.
	ResetPeer(a netip.Addr)
	// SetGate says where writers wait for room toward a destination.
	SetGate(g netstack.Gate)
}

// makeSource makes the packet source and the stack that goes with it.
func (p *pipeline) makeSource(context.Context) error {
	c := &p.node.cfg
	p.closeSource = sync.OnceFunc(func() {
		if p.source != nil {
			p.source.Close()
		}
	})
	p.defer_(p.closeSource)
	if c.Source != nil {
		p.source = c.Source
		p.stack = &hostStack{addrs: p.node.cert.Addrs()}
		return nil
	}
	s, err := netstack.New(netstack.Config{
		Addrs: p.node.cert.Addrs(), MTU: p.mtu,
		Logger: c.Logger, Queues: &p.queues, Stats: &p.stats,
	})
	if err != nil {
		return fmt.Errorf("network stack: %w", err)
	}
	p.source, p.stack = s, innerStack{s}
	return nil
}

// innerStack is the in-process stack.
type innerStack struct{ *netstack.Stack }

func (s innerStack) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return s.Stack.DialTCP(ctx, netip.AddrPort{}, to)
}

func (s innerStack) DialUDP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return s.Stack.DialUDP(ctx, netip.AddrPort{}, to)
}

// pingPayload is what an echo request carries, as many bytes as ping(8) sends.
var pingPayload [56]byte

func (s innerStack) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	return s.Stack.Ping(ctx, to, pingPayload[:])
}
