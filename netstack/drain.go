package netstack

import (
	"context"
	"fmt"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// drainPoll is how often Drain looks: gVisor tells of no state change of a closed connection.
const drainPoll = 5 * time.Millisecond

// Drain closes the listeners, and waits until every TCP connection has been closed by its user
// and the peer has acknowledged all of it (the states from FIN-WAIT-2 on, RFC 9293 section
// 3.3.2), or until ctx ends; then it returns its cause. Connections can still be dialled.
func (s *Stack) Drain(ctx context.Context) error {
	s.mu.Lock()
	var listeners []*listener
	for a := range s.open {
		if l, ok := a.(*listener); ok {
			listeners = append(listeners, l)
		}
	}
	s.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		n := s.undelivered()
		if n == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return nil
		case <-ctx.Done():
			return fmt.Errorf("netstack: drain: %d connections are open: %w", n, context.Cause(ctx))
		}
	}
}

// undelivered counts the TCP connections that are open or have data on its way.
func (s *Stack) undelivered() (n int) {
	for _, e := range s.net.RegisteredEndpoints() {
		ep, ok := e.(tcpip.Endpoint)
		if !ok {
			continue
		}
		t, ok := ep.(*tcp.Endpoint)
		if !ok {
			continue
		}
		switch t.EndpointState() {
		case tcp.StateSynSent, tcp.StateSynRecv, tcp.StateEstablished, tcp.StateFinWait1,
			tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing:
			n++
		}
	}
	return n
}
