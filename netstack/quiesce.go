package netstack

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Quiesce closes the listeners, waits until the application has closed every TCP connection,
// and then until those have delivered what was written to them; see Drain. It returns the
// context's cause when ctx ends first, and net.ErrClosed when the stack is closed.
func (s *Stack) Quiesce(ctx context.Context) error {
	bound, release := s.bind(ctx)
	defer release()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		listening, open := s.sockets()
		for _, l := range listening {
			_ = l.Close() // it may have been closed meanwhile
		}
		if open == 0 {
			return s.Drain(ctx)
		}
		select {
		case <-tick.C:
		case <-bound.Done():
			return fmt.Errorf("netstack: quiesce: %d connections are open: %w", open, context.Cause(bound))
		}
	}
}

// sockets returns the TCP listeners that are open, and counts the connections.
func (s *Stack) sockets() (listening []*listener, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.open {
		if _, ok := a.(*tcpConn); ok {
			open++
		}
	}
	return slices.Collect(maps.Keys(s.listeners)), open
}
