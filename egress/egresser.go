package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/packet"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/stream"
)

const (
	// recheck is how often a busy Egresser asks who has its address: a certificate may move it.
	// An address that nobody has is not looked up more often either.
	recheck = time.Second
	// ackHold is how long bare TCP acknowledgements wait for company. A stack acknowledges what
	// arrived just before the application answers it; together they take one message and one
	// signature. RFC 9293 section 3.8.6.3 allows 500 ms.
	ackHold = 500 * time.Microsecond
	// deadlineSlots is into how many steps the age limit is divided: batches whose limits lie
	// within one step share a context, which spares making one for each.
	deadlineSlots = 32
)

// errAge is the cause of the context of a Send when its oldest packet has become too old.
var errAge = fmt.Errorf("egress: packet is too old: %w", context.DeadlineExceeded)

// egresser is one goroutine that sends what waits in a group's queue.
type egresser struct {
	e *Egress
	g *group

	held [wire.MaxPackets]*buffer.Buf // taken from the queue

	sender  stream.Sender // nil until the address is resolved
	peer    identity.ID   // whom it sends to
	refusal error         // what the last look-up said instead, if it said something
	checked time.Time     // when it was

	ctx    context.Context // of Send and Resolve; see deadline
	cancel context.CancelFunc
	limit  time.Time // when ctx ends

	hold *time.Timer // of bare acknowledgements
	idle *time.Timer
	busy time.Time // when the last packets were taken
}

func newEgresser(g *group) *egresser {
	w := &egresser{e: g.e, g: g, idle: time.NewTimer(g.e.cfg.Grace), hold: time.NewTimer(ackHold), busy: time.Now()}
	w.hold.Stop()
	return w
}

// run sends until the group retires, is closed and empty, or Close ends everything.
func (w *egresser) run() {
	defer w.end()
	for {
		bufs := w.take()
		if bufs == nil {
			return
		}
		w.deliver(bufs)
	}
}

// take waits for packets and takes up to 25. It returns nil when there is nothing more to do.
func (w *egresser) take() []*buffer.Buf {
	q := w.g.queue
	for {
		if n := q.TryPop(w.held[:]); n > 0 {
			w.busy = time.Now()
			return w.held[:w.gather(n)]
		}
		select {
		case <-q.Ready():
		case <-q.Done():
			if q.Len() == 0 {
				return nil
			}
		case <-w.idle.C:
			// The timer runs on while packets come, so that taking them costs no timer operation.
			left := w.e.cfg.Grace - time.Since(w.busy)
			if left <= 0 && w.g.retire() {
				return nil
			}
			w.idle.Reset(max(left, 0))
		case <-w.e.ctx.Done():
			return nil
		}
	}
}

// gather waits a moment for more if the n packets held are bare acknowledgements, and returns
// how many are held then. Anything else is never made to wait.
func (w *egresser) gather(n int) int {
	seen := 0
	for n < len(w.held) && bareAcks(w.held[seen:n]) {
		if seen == 0 {
			w.hold.Reset(ackHold)
		}
		seen = n
		select {
		case <-w.g.queue.Ready():
			n += w.g.queue.TryPop(w.held[n:])
			continue
		case <-w.hold.C:
		case <-w.g.queue.Done():
		case <-w.e.ctx.Done():
		}
		break
	}
	w.hold.Stop()
	return n
}

// bareAcks reports whether all packets are bare acknowledgements.
func bareAcks(bufs []*buffer.Buf) bool {
	var h packet.Header
	for _, b := range bufs {
		if h.Parse(b.Bytes()) != nil || !h.IsBareAck(b.Bytes()) {
			return false
		}
	}
	return true
}

// deliver sends bufs in as many batches as they need and takes over their references.
func (w *egresser) deliver(bufs []*buffer.Buf) {
	for len(bufs) > 0 {
		n := w.expire(bufs)
		if n == 0 {
			n = w.sendSome(bufs)
		}
		releaseAll(bufs[:n])
		bufs = bufs[n:]
	}
}

// expire gives up the packets at the head of bufs that are too old, and returns how many.
func (w *egresser) expire(bufs []*buffer.Buf) int {
	n := olderThan(bufs, w.e.cfg.MaxAge)
	w.giveUp(bufs[:n], verdict{w.e.count.expired, packet.Unreachable})
	return n
}

// olderThan counts the packets at the head of bufs that were born at least d ago.
func olderThan(bufs []*buffer.Buf, d time.Duration) (n int) {
	now := time.Now()
	for n < len(bufs) && now.Sub(bufs[n].Born) >= d {
		n++
	}
	return n
}

// sendSome sends one batch from the head of bufs and returns how many packets are dealt with.
func (w *egresser) sendSome(bufs []*buffer.Buf) int {
	ctx := w.deadline(bufs[0].Born)
	if err := w.resolve(ctx); err != nil {
		v := w.judge(err)
		if v.counter == w.e.count.unreachable {
			v = verdict{w.e.count.noRoute, packet.NoRoute}
		}
		return w.fail(bufs, v)
	}
	b, n := fill(bufs)
	if n == 0 {
		w.giveUp(bufs[:1], verdict{w.e.count.tooBig, packet.TooBig})
		return 1
	}
	if err := w.sender.Send(ctx, b); err != nil {
		w.checked = time.Time{} // perhaps somebody else has the address by now
		return w.fail(bufs[:n], w.judge(err))
	}
	w.e.count.out.Add(uint64(n))
	return n
}

// fail gives up what could not be sent, and returns how many packets. When time ran out that
// is what is too old, give or take a step: those behind are worth another try.
func (w *egresser) fail(bufs []*buffer.Buf, v verdict) int {
	n := len(bufs)
	if v.counter == w.e.count.expired {
		n = max(1, olderThan(bufs, w.e.cfg.MaxAge-w.step()))
	}
	w.giveUp(bufs[:n], v)
	return n
}

// step is how exactly the age limit is kept while sending.
func (w *egresser) step() time.Duration { return w.e.cfg.MaxAge / deadlineSlots }

// fill returns a batch of the packets at the head of bufs that fit, and how many; no batch if
// the first is too large for any.
func fill(bufs []*buffer.Buf) (*stream.Batch, int) {
	size := 0
	for _, p := range bufs {
		size += p.Len()
	}
	b := stream.NewBatch(size)
	for i, p := range bufs {
		if !b.Add(p.Bytes()) {
			if i == 0 {
				b.Release()
				return nil, 0
			}
			return b, i
		}
		b.SetBorn(p.Born)
	}
	return b, len(bufs)
}

// resolve finds the anchor behind the address, and the sender toward it.
func (w *egresser) resolve(ctx context.Context) error {
	now := time.Now()
	fresh := now.Sub(w.checked) < recheck
	if w.sender != nil && fresh {
		return nil
	}
	id, known := w.e.cfg.Resolver.Known(w.g.dst)
	switch {
	case known:
	case w.sender != nil:
		id = w.peer // not known now is no reason to stop
	case w.refusal != nil && fresh:
		return w.refusal
	default:
		var err error
		if id, err = w.e.cfg.Resolver.Resolve(ctx, w.g.dst); err != nil {
			if ctx.Err() == nil {
				w.refusal, w.checked = err, now
			}
			return err
		}
	}
	w.refusal, w.checked = nil, now
	if w.sender != nil && id == w.peer {
		return nil
	}
	if w.sender != nil {
		w.sender.Close()
	}
	w.peer, w.sender = id, w.e.cfg.Senders.Sender(id)
	return nil
}

// deadline returns a context that ends when a packet born then has reached its age limit, or
// up to one step earlier. Nobody else holds it when it is called again.
func (w *egresser) deadline(born time.Time) context.Context {
	limit := born.Add(w.e.cfg.MaxAge)
	if w.ctx != nil && w.ctx.Err() == nil {
		if d := limit.Sub(w.limit); d >= 0 && d < w.step() {
			return w.ctx
		}
	}
	if w.cancel != nil {
		w.cancel()
	}
	w.limit = limit
	w.ctx, w.cancel = context.WithDeadlineCause(w.e.ctx, limit, errAge)
	return w.ctx
}

// verdict is what becomes of packets that were not sent: how they are counted, and what their
// sender is told; nothing if why is 0.
type verdict struct {
	counter *stats.Counter
	why     packet.Reason
}

// judge sorts an error of Send or Resolve.
func (w *egresser) judge(err error) verdict {
	switch {
	case w.e.ctx.Err() != nil:
		return verdict{w.e.count.closed, 0}
	case errors.Is(err, stream.ErrNotAllowed), errors.Is(err, identity.ErrRevoked),
		errors.Is(err, identity.ErrExpired), errors.Is(err, identity.ErrNotYetValid),
		errors.Is(err, identity.ErrForeignRealm):
		return verdict{w.e.count.prohibited, packet.Prohibited}
	case errors.Is(err, context.DeadlineExceeded):
		return verdict{w.e.count.expired, packet.Unreachable}
	case errors.Is(err, net.ErrClosed): // the node is being closed from the other end
		return verdict{w.e.count.closed, 0}
	}
	return verdict{w.e.count.unreachable, packet.Unreachable}
}

// giveUp counts packets that are not sent and tells their sender. The caller keeps the
// references.
func (w *egresser) giveUp(bufs []*buffer.Buf, v verdict) {
	v.counter.Add(uint64(len(bufs)))
	if v.why == 0 {
		return
	}
	for _, b := range bufs {
		w.e.answer.send(b.Bytes(), v.why)
	}
}

// end gives back what the Egresser holds. What is left in the queue, after Close alone, is
// dropped.
func (w *egresser) end() {
	w.g.queue.Close()
	w.e.forget(w.g)
	for n := w.g.queue.TryPop(w.held[:]); n > 0; n = w.g.queue.TryPop(w.held[:]) {
		w.e.count.closed.Add(uint64(n))
		releaseAll(w.held[:n])
	}
	w.idle.Stop()
	w.hold.Stop()
	if w.cancel != nil {
		w.cancel()
	}
	if w.sender != nil {
		w.sender.Close()
	}
}
