package stream

import "context"

// Drain waits until the peers have acknowledged every message of the streams that are open,
// or until ctx ends. It is for the moments before Close: messages can still be sent meanwhile.
func (e *Endpoint) Drain(ctx context.Context) {
	for {
		n := 0
		for _, o := range e.out.all() {
			n += o.unsettled()
		}
		if n == 0 {
			return
		}
		select {
		case <-e.settled:
		case <-e.life.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// unsettled counts the messages on their way.
func (o *outbound) unsettled() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return 0
	}
	return o.state.Outstanding() + o.sending
}
