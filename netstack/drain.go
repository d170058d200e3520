package netstack

import (
	"context"
	"fmt"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// drainPoll is how often Drain looks: gVisor does not tell when the last byte of a connection
// is acknowledged.
const drainPoll = 5 * time.Millisecond

// Drain waits until the TCP connections that the application has closed have delivered what
// was written to them, so that a Close of the stack afterwards loses nothing. It does not wait
// for connections that are open. It returns the context's cause when ctx ends first, and
// net.ErrClosed when the stack is closed.
func (s *Stack) Drain(ctx context.Context) error {
	ctx, release := s.bind(ctx)
	defer release()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for s.undelivered() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("netstack: drain: %w", context.Cause(ctx))
		}
	}
	return nil
}

func (s *Stack) undelivered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ep := range s.closing {
		if delivering(ep) {
			return true
		}
	}
	return false
}

// delivering reports whether the endpoint waits for the acknowledgement of its FIN.
func delivering(ep tcpip.Endpoint) bool {
	switch tcp.EndpointState(ep.State()) {
	case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
		return true
	}
	return false
}

// finish closes the endpoint of a TCP connection and remembers it until it has ended.
func (s *Stack) finish(ep tcpip.Endpoint, wq *waiter.Queue) {
	ended := waiter.NewFunctionEntry(waiter.EventHUp, func(waiter.EventMask) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.closing, ep)
	})
	wq.EventRegister(&ended)
	s.mu.Lock()
	s.closing[ep] = struct{}{}
	s.mu.Unlock()
	ep.Close()
	if !delivering(ep) { // it may have ended before
		s.mu.Lock()
		delete(s.closing, ep)
		s.mu.Unlock()
	}
}
