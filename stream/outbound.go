package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/route"
)

// errRetired says that a stream takes no messages any more; its successor does.
var errRetired = errors.New("stream: retired")

// outbound is a stream that this anchor sends on.
//
//	send:  window (SendState.Reserve) ─> budget for the kept copy ─> route.Pick ─> Sealer.Seal
//	       ─> SendState.Sent ─> route.Send
//
// send may run in many goroutines at once; a number is taken only when window, budget and hop
// are held.
type outbound struct {
	peer        *peer
	cert        *identity.Certificate
	dest        *route.Destination
	flow        uint64 // keeps the stream's messages on one hop while it is good
	peerSession identity.Nonce
	draw        float64
	born        time.Time

	sealer *Sealer
	opener *Opener

	mu       sync.Mutex
	state    *SendState
	restart  Restart
	sending  int  // calls between Reserve and the end of Send
	retired  bool // takes no more messages
	ended    bool // forgotten
	waiting  int  // calls that wait for the window
	lastData time.Time
	probeAt  time.Time // no probe before
	sent     uint64    // data messages
	bytes    uint64    // of them
	budget   int64     // of Endpoint.kept, held for the kept copies
	orphans  []uint64  // went over a hop that died, to be sent again
	numbers  []uint64  // scratch of keep
	acked    []Acked
	ack      wire.AckBody

	room chan struct{} // a token when the window may have opened; see queue.Queue
	over chan struct{} // closed when ended
	idle chan struct{} // a token when sending fell to 0 after retirement
}

// newOutbound is called once the accept has come. rtt is how long the handshake took, 0 if
// that is not known.
func newOutbound(p *peer, r *identity.Record, est *Established, rtt time.Duration, now time.Time) *outbound {
	return &outbound{
		peer: p, cert: r.Certificate, peerSession: r.Session,
		dest: &route.Destination{ID: r.ID(), Tag: r.Current.Tag, Locator: r.Current.Locator},
		flow: rand.Uint64(), draw: rand.Float64(), born: now, lastData: now,
		sealer: est.Sealer, opener: est.Opener,
		state: NewSendState(est.Grant, rtt, now),
		room:  make(chan struct{}, 1),
		over:  make(chan struct{}),
		idle:  make(chan struct{}, 1),
	}
}

// send seals a batch and hands it to a next hop. It returns errRetired, and leaves b to the
// caller, if the stream takes no messages any more; in every other case it takes b over.
func (o *outbound) send(ctx context.Context, b *Batch) error {
	size := b.MaxSize()
	if err := o.reserve(ctx, size); err != nil {
		if !errors.Is(err, errRetired) {
			b.Release()
		}
		return err
	}
	defer o.leave()
	d, err := o.pick(ctx, size)
	if err != nil {
		o.unreserve(size)
		b.Release()
		return err
	}
	m, err := o.seal(b, size, d.NextHop)
	if err != nil {
		return err
	}
	if err := o.peer.e.cfg.Forwarder.Send(ctx, d, m); err != nil {
		// The number is taken: the kept copy goes by another hop when the message counts as lost.
		o.peer.e.count.hop.Inc()
		o.peer.nudge()
		return nil
	}
	o.peer.e.count.stage.Out.Inc()
	return nil
}

// pick waits for the node's budget of kept copies and for a next hop.
func (o *outbound) pick(ctx context.Context, size int) (route.Descriptor, error) {
	if err := o.peer.e.kept.Acquire(ctx, int64(size)); err != nil {
		return route.Descriptor{}, fmt.Errorf("stream: send to %s: send buffer is full: %w", o.cert.Name, context.Cause(ctx))
	}
	d, err := o.peer.e.cfg.Forwarder.Pick(ctx, o.dest, route.Request{Size: size, Flow: o.flow})
	if err != nil {
		o.peer.e.kept.Release(int64(size))
	}
	return d, err
}

// seal takes a number, signs and seals, and records the message with a kept copy.
func (o *outbound) seal(b *Batch, size int, hop identity.ID) (*buffer.Buf, error) {
	o.mu.Lock()
	floor := o.state.Floor()
	o.mu.Unlock()
	now := time.Now()
	m, number, err := o.sealer.Seal(b, floor, now)
	if err != nil { // a hard limit, or the signer failed: the stream ends here
		o.peer.e.kept.Release(int64(size))
		o.unreserve(size)
		o.retire()
		o.peer.nudge()
		return nil, err
	}
	o.record(Sent{
		Number: number, Kind: wire.KindData, Size: m.Len(), Reserved: size,
		Hop: hop, At: now, Born: m.Born, Kept: m.Retain(),
	}, int64(size))
	return m, nil
}

// record books a sealed message as outstanding. budget is what was acquired for its kept copy.
func (o *outbound) record(s Sent, budget int64) {
	o.mu.Lock()
	if o.ended {
		o.mu.Unlock()
		s.Kept.Release()
		o.peer.e.kept.Release(budget)
		return
	}
	first := o.state.Outstanding() == 0
	o.state.Sent(s)
	o.restart.Waiting(s.At)
	if s.Kind == wire.KindData {
		o.lastData = s.At
		o.sent++
		o.bytes += uint64(s.Size)
	}
	o.budget += budget
	freed := o.settle()
	o.mu.Unlock()
	o.peer.e.kept.Release(freed) // the reservation was for the largest form
	if first && o.peer.dozes.Load() {
		o.peer.nudge()
	}
}

// settle returns what the stream holds of the budget beyond its kept copies, and takes it as
// given back. Called with mu held; the caller releases it without.
func (o *outbound) settle() int64 {
	freed := o.budget - int64(o.state.KeptBytes())
	o.budget -= freed
	return freed
}

// reserve waits until the window has room for size bytes. On success the caller must leave.
func (o *outbound) reserve(ctx context.Context, size int) error {
	o.mu.Lock()
	if o.retired {
		o.mu.Unlock()
		return errRetired
	}
	if o.state.Reserve(size) {
		o.sending++
		o.mu.Unlock()
		return nil
	}
	o.waiting++
	defer func() { // with mu held
		o.waiting--
		o.mu.Unlock()
	}()
	for {
		o.mu.Unlock()
		if o.peer.dozes.Load() {
			o.peer.nudge()
		}
		var err error
		select {
		case <-o.room:
		case <-o.over:
			err = errRetired
		case <-ctx.Done():
			err = fmt.Errorf("stream: send to %s: window is full: %w", o.cert.Name, context.Cause(ctx))
		}
		o.mu.Lock()
		switch {
		case err != nil:
			signal(o.room) // a token taken meanwhile belongs to the next
			return err
		case o.retired:
			signal(o.room)
			return errRetired
		case o.state.Reserve(size):
			o.sending++
			signal(o.room)
			return nil
		}
	}
}

func (o *outbound) unreserve(size int) {
	o.mu.Lock()
	o.state.Unreserve(size)
	o.mu.Unlock()
	signal(o.room)
}

// leave ends what reserve began.
func (o *outbound) leave() {
	o.mu.Lock()
	o.sending--
	last := o.retired && o.sending == 0
	o.mu.Unlock()
	if last {
		signal(o.idle)
	}
}

// retire makes the stream take no more messages; those that wait go to its successor.
func (o *outbound) retire() {
	o.mu.Lock()
	o.retired = true
	o.mu.Unlock()
	signal(o.room)
}

// close ends the stream politely: it waits for the calls under way, then seals the close. The
// stream is forgotten once everything is acknowledged or has expired; see settleDraining.
func (o *outbound) close(ctx context.Context) {
	o.retire()
	o.mu.Lock()
	busy := o.sending > 0
	o.mu.Unlock()
	if busy {
		select {
		case <-o.idle:
		case <-time.After(MaxAge):
		case <-o.over:
		case <-ctx.Done():
		}
	}
	o.sendControl(ctx, func(floor uint64, now time.Time) (*buffer.Buf, uint64, error) {
		return o.sealer.SealClose(floor, now)
	}, wire.KindClose)
}

// sendControl seals a close or a probe and sends it, kept like data.
func (o *outbound) sendControl(ctx context.Context, seal func(floor uint64, now time.Time) (*buffer.Buf, uint64, error), kind wire.Kind) {
	ctx, cancel := context.WithTimeout(ctx, MaxAge)
	defer cancel()
	d, err := o.pick(ctx, controlSize)
	if err != nil {
		return
	}
	o.mu.Lock()
	floor := o.state.Floor()
	o.mu.Unlock()
	now := time.Now()
	m, number, err := seal(floor, now)
	if err != nil {
		o.peer.e.kept.Release(controlSize)
		return
	}
	o.record(Sent{Number: number, Kind: kind, Size: m.Len(), Hop: d.NextHop, At: now, Kept: m.Retain()}, controlSize)
	_ = o.peer.e.cfg.Forwarder.Send(ctx, d, m) // if it is lost, the kept copy is sent again
}

// controlSize is at least the size of a close or a probe without a record.
const controlSize = 256

// receiveAck takes an acknowledgement. It runs in a read loop and does not wait.
func (o *outbound) receiveAck(m *buffer.Buf, now time.Time) {
	e := o.peer.e
	o.mu.Lock()
	if o.ended {
		o.mu.Unlock()
		return
	}
	_, err := o.opener.OpenAck(m, &o.ack, now)
	if err == nil {
		o.acked, err = o.state.Ack(&o.ack, now, o.acked[:0])
	}
	var freed int64
	if err == nil {
		freed = o.settle()
		o.restart.Acked(now, o.state.Outstanding() > 0)
		o.observe(now)
	}
	o.mu.Unlock()
	if err != nil {
		e.count.failure(err)
		return
	}
	e.kept.Release(freed)
	signal(o.room)
	signal(e.settled)
}

// observe tells the route's preference what was delivered. Called with mu held; Observe never
// waits.
func (o *outbound) observe(now time.Time) {
	for i := range o.acked {
		a := &o.acked[i]
		if a.Resent {
			continue
		}
		o.peer.e.cfg.Forwarder.Observe(route.Observation{
			Now: now, To: o.dest.ID, Hop: a.Hop, Outcome: route.Delivered, Delay: a.Took, Size: a.Size,
		})
	}
}

// end forgets the stream at once; what was not acknowledged is lost. why is for those who
// wait for it.
func (o *outbound) end(why error) {
	o.mu.Lock()
	if o.ended {
		o.mu.Unlock()
		return
	}
	o.ended, o.retired = true, true
	o.state.Release()
	freed := o.settle()
	o.mu.Unlock()
	close(o.over)
	e := o.peer.e
	e.kept.Release(freed)
	e.out.remove(o.opener.ID())
	if why == nil {
		why = net.ErrClosed
	}
	o.peer.lose(o, why)
}

// progress describes the stream for Peers; ok is false once it takes no more messages.
func (o *outbound) progress() (sent uint64, rtt time.Duration, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent, o.state.SRTT(), !o.retired
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
