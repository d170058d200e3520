package tether

import (
	"errors"
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

// hello makes the first frame, in b: who we are in this session, and whom we mean. The link's DTLS
// fingerprint stands in the signed signalling; the hello says that both ends of the link are
// the sessions that signalled, and not an earlier one of either.
func (t *tether) hello(b []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frames++
	h := wire.Hello{Session: t.env.own, Peer: t.session, List: t.env.list(), Window: wire.MinWindow}
	return h.Append(b, t.frames)
}

// heartbeat makes a heartbeat, in b, with what has arrived by now.
func (t *tether) heartbeat(b []byte) []byte {
	t.unacked.Store(0)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frames++
	h := t.pulse.beat(time.Now())
	h.Links[0] = wire.LinkReport{Link: uint32(t.number), Received: t.received.Load(), Bitmap: t.pulse.bitmap}
	h.N = 1
	return h.Append(b, t.frames)
}

// frame handles a tether frame. It reports false when the tether has ended for it.
func (t *tether) frame(m []byte) bool {
	head, body, err := wire.ParseFrame(m)
	switch {
	case errors.Is(err, wire.ErrFrameKind):
		t.env.count.unknown.Inc()
		return true
	case err != nil:
		t.env.count.malformed.Inc()
		return true
	}
	switch head.Kind {
	case wire.FrameHello:
		return t.takeHello(body)
	case wire.FrameHeartbeat:
		var h wire.Heartbeat
		if err := h.Parse(body); err != nil {
			t.env.count.malformed.Inc()
			return true
		}
		t.takeHeartbeat(&h)
	default: // kinds of routing, which has no use for them yet
		t.env.count.unknown.Inc()
	}
	return true
}

// takeHello checks the peer's hello and waits until the Receiver knows the tether.
func (t *tether) takeHello(body []byte) bool {
	h, err := wire.ParseHello(body)
	switch {
	case err != nil:
		t.env.count.malformed.Inc()
		return true
	case t.helloed.Load():
		t.env.count.secondHello.Inc()
		return true
	case h.Session != t.session || h.Peer != t.env.own:
		t.env.count.badHello.Inc()
		t.end(errHello)
		return false
	}
	t.helloed.Store(true)
	t.changed()
	select {
	case <-t.gate:
		return true
	case <-t.done:
		return false
	}
}

func (t *tether) takeHeartbeat(h *wire.Heartbeat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pulse.take(time.Now(), h)
	for i := range h.N {
		if h.Links[i].Link == uint32(t.number) {
			// Unordered: an older report may come after a newer one.
			t.acked = max(t.acked, min(h.Links[i].Received, t.sent.Load()))
		}
	}
}
