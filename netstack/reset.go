package netstack

import (
	"net/netip"
	"syscall"
)

// ResetPeer ends all TCP connections with a remote address at once, as if the peer had reset
// them: pending and later calls return syscall.ECONNRESET. It is for a peer that is known to
// have lost its connections, because it has started anew. It does not wait.
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
}
