package netstack

import (
	"gvisor.dev/gvisor/pkg/waiter"
)

// wakeup is a registration for events of an endpoint: ready yields a token after each. One
// goroutine at a time waits on it; it looks first, so that no event is missed.
type wakeup struct {
	entry waiter.Entry
	ready chan struct{}
}

// register starts the registration. It lasts as long as the endpoint.
func (w *wakeup) register(q *waiter.Queue, events waiter.EventMask) {
	w.entry, w.ready = waiter.NewChannelEntry(events | waiter.EventErr | waiter.EventHUp)
	q.EventRegister(&w.entry)
}

// wait returns nil after an event, and the halt's cause once that has ended.
func (w *wakeup) wait(h *halt) error {
	select {
	case <-w.ready:
		return nil
	case <-h.done:
		return h.cause
	}
}

// poke wakes the waiter.
func (w *wakeup) poke() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}
