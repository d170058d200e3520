package netstack

import (
	"context"
	"net/netip"
)

// Gate tells whether what waits toward a destination leaves room for more. Package egress
// implements it on its queues. Methods are called from many goroutines at once.
type Gate interface {
	// TryRoom reports whether dst has room. It must neither wait nor allocate: it runs once
	// per Write of every connection.
	TryRoom(dst netip.Addr) bool
	// WaitRoom waits until dst has room. It returns the context's cause when ctx ends first;
	// any other error ends the caller's Write or Dial with that error.
	WaitRoom(ctx context.Context, dst netip.Addr) error
}

// SetGate makes Write, WriteTo, Dial and Ping wait for room at g, besides the stack's own
// outbound queue. A nil Gate has room always. Safe for concurrent use; calls that wait at the
// previous Gate go on waiting there.
func (s *Stack) SetGate(g Gate) {
	if g == nil {
		s.gate.Store(nil)
		return
	}
	s.gate.Store(&g)
}

// admit waits until the application may give gVisor data for dst.
func (s *Stack) admit(ctx context.Context, dst netip.Addr) error {
	if s.isOwn(dst) {
		return nil // never leaves the stack
	}
	if g := s.gate.Load(); g != nil && !(*g).TryRoom(dst) {
		if err := (*g).WaitRoom(ctx, dst); err != nil {
			return err
		}
	}
	if s.out.HasRoom() {
		return nil
	}
	return s.out.WaitRoom(ctx)
}
