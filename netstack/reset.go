package netstack

import (
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// ResetPeer ends all TCP connections with a remote address at once, as if the peer had reset
// them, those that nobody has accepted yet too: pending and later calls return
// syscall.ECONNRESET. It is for a peer that is known to have lost its connections, because it
// has started anew, or that is not admitted any more. It does not wait.
func (s *Stack) ResetPeer(remote netip.Addr) {
	s.mu.Lock()
	var conns []*tcpConn
	for a := range s.open {
		if c, ok := a.(*tcpConn); ok && c.dst == remote {
			conns = append(conns, c)
		}
	}
	s.mu.Unlock()
	reset := syscall.ECONNRESET
	for _, c := range conns {
		c.broken.CompareAndSwap(nil, &reset)
		c.ep.Abort()
	}
	for _, e := range s.net.RegisteredEndpoints() {
		ep, ok := e.(*tcp.Endpoint)
		if !ok {
			continue
		}
		at, err := ep.GetRemoteAddress()
		if err != nil { // it has none: a listener
			continue
		}
		if a, ok := netip.AddrFromSlice(at.Addr.AsSlice()); ok && a.Unmap() == remote {
			ep.Abort()
		}
	}
}
