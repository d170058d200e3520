package stream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/route"
)

// lateLife is how long the keys of a stream live after its close, for messages sent again.
const lateLife = 5 * time.Second

// inbound is a stream that another anchor sends to this one. It is the Inbound that package
// ingress sees. Its goroutine, acknowledge, sends what AckState says is due.
type inbound struct {
	e      *Endpoint
	record *identity.Record   // the initiator's, as its open bore it
	to     *route.Destination // where acknowledgements go
	est    *Established
	born   time.Time

	first sync.Once // the first valid data message makes the Sink
	sink  atomic.Pointer[Sink]

	mu        sync.Mutex
	acks      *AckState
	confirmed bool
	ended     bool
	closedAt  time.Time // when the peer's close came; zero before
	got       uint64    // data messages

	wake   chan struct{}
	life   context.Context // ends with the stream
	cancel context.CancelFunc
}

var _ Inbound = (*inbound)(nil)

func newInbound(e *Endpoint, est *Established, now time.Time) *inbound {
	r := est.Peer
	in := &inbound{
		e: e, record: r, est: est, born: now,
		to:   &route.Destination{ID: r.ID(), Tag: r.Current.Tag, Locator: r.Current.Locator},
		acks: NewAckState(GenerousGrant, est.Grant, now),
		wake: make(chan struct{}, 1),
	}
	in.life, in.cancel = context.WithCancel(e.life)
	return in
}

// ID implements Inbound.
func (in *inbound) ID() wire.StreamID { return in.est.ID }

// Predecessor implements Inbound.
func (in *inbound) Predecessor() wire.StreamID { return in.est.Predecessor }

// Peer implements Inbound.
func (in *inbound) Peer() *identity.Certificate { return in.record.Certificate }

// Open implements Inbound.
func (in *inbound) Open(m *buffer.Buf) (Data, error) {
	now := time.Now()
	d, err := in.est.Opener.Open(m, now)
	if err != nil {
		if errors.Is(err, ErrDuplicate) {
			in.copied(m, now)
		}
		in.e.count.failure(err)
		return d, err
	}
	in.arrived(wire.KindData, d.Number, d.Floor, m.Len(), now)
	return d, nil
}

// arrived books a message of the initiator.
func (in *inbound) arrived(kind wire.Kind, number, floor uint64, size int, now time.Time) {
	in.mu.Lock()
	quiet := in.acks.Deadline().IsZero()
	in.acks.Arrived(kind, number, floor, size, now)
	if kind == wire.KindData {
		in.got++
	}
	due := quiet || in.acks.Due(now)
	in.mu.Unlock()
	if due {
		signal(in.wake)
	}
}

// copied books another copy of a message: it is no loss, and may have been a probe.
func (in *inbound) copied(m *buffer.Buf, now time.Time) {
	env, err := wire.ParseEnvelope(m.Bytes())
	if err != nil {
		return
	}
	in.mu.Lock()
	in.acks.Copy(env.Number, env.Flags&wire.FlagProbe != 0, now)
	in.acks.Missing() // the sender resends because it has not heard: tell it
	in.mu.Unlock()
	signal(in.wake)
}

// Consumed implements Inbound.
func (in *inbound) Consumed(size int) {
	now := time.Now()
	in.mu.Lock()
	in.acks.Consumed(size, now)
	due := in.acks.Due(now)
	in.mu.Unlock()
	if due {
		signal(in.wake)
	}
}

// Missing implements Inbound.
func (in *inbound) Missing() {
	in.mu.Lock()
	in.acks.Missing()
	in.mu.Unlock()
	signal(in.wake)
}

// receiveData takes a data message in a read loop.
func (in *inbound) receiveData(m *buffer.Buf) {
	s := in.sink.Load()
	if s == nil {
		if !in.est.Opener.genuine(m, time.Now()) {
			in.e.count.seal.Inc()
			m.Release()
			return
		}
		if s = in.confirm(); s == nil { // it has ended meanwhile
			in.e.count.unknown.Inc()
			m.Release()
			return
		}
	}
	if !(*s).Push(m) {
		in.e.count.window.Inc()
		m.Release()
		return
	}
	in.e.count.stage.In.Inc()
}

// confirm makes the Sink at the first valid data message: until then, all that an initiator
// costs is this struct.
func (in *inbound) confirm() *Sink {
	in.first.Do(func() {
		s := in.e.cfg.Acceptor.Accept(in)
		in.mu.Lock()
		ended := in.ended
		in.confirmed = true
		if !ended {
			in.sink.Store(&s)
		}
		in.mu.Unlock()
		if ended {
			s.Close()
			return
		}
		in.e.release(in.record.ID())
	})
	return in.sink.Load()
}

// genuine reports whether a data message was sealed by the stream's initiator. It works on a
// copy, marks nothing and verifies no signature.
func (o *Opener) genuine(m *buffer.Buf, now time.Time) bool {
	trial := buffer.Get(m.Len())
	defer trial.Release()
	trial.Append(m.Bytes())
	sc := o.scratch.Get().(*scratch)
	defer o.scratch.Put(sc)
	_, _, err := o.decrypt(sc, trial.Bytes(), now, wire.KindData)
	return err == nil
}

// receiveControl takes a close, a probe or a signal in a read loop.
func (in *inbound) receiveControl(m *buffer.Buf, now time.Time) {
	size := m.Len()
	c, err := in.est.Opener.OpenControl(m, now)
	if err != nil {
		in.e.count.failure(err)
		return
	}
	in.e.count.stage.In.Inc()
	in.arrived(c.Kind, c.Number, c.Floor, size, now)
	s := in.sink.Load()
	if s != nil {
		(*s).Pass(c.Number, c.Floor)
	}
	switch c.Kind {
	case wire.KindClose:
		in.mu.Lock()
		in.closedAt = now
		in.mu.Unlock()
		if s != nil {
			(*s).Final(c.Final)
		}
	case wire.KindProbe:
		if len(c.Record) > 0 {
			in.learn(c.Record)
		}
	}
}

// learn takes the record that a probe brings at an epoch change.
func (in *inbound) learn(raw []byte) {
	r, err := in.e.cfg.Verifier.Record(raw)
	if err != nil || r.ID() != in.record.ID() || !in.e.cfg.Directory.Learn(r) {
		in.e.count.stale.Inc()
	}
}

// acknowledge sends acknowledgements until the stream ends. Picking a hop comes first, so
// what is told is the newest when the hop has room.
func (in *inbound) acknowledge() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-in.wake:
		case <-timer.C:
		case <-in.life.Done():
			return
		}
		now := time.Now()
		in.mu.Lock()
		due, at := in.acks.Due(now), in.acks.Deadline()
		in.mu.Unlock()
		switch {
		case due:
			if !in.sendAck() {
				timer.Reset(AckDelay) // no way now: what is due stays due
				continue
			}
			signal(in.wake) // more may have come
		case at.IsZero():
		default:
			timer.Reset(at.Sub(now))
		}
	}
}

// ackRoom is the room asked of a hop for an acknowledgement.
const ackRoom = 512

func (in *inbound) sendAck() bool {
	ctx, cancel := context.WithTimeout(in.life, MaxAge)
	defer cancel()
	d, err := in.e.cfg.Forwarder.Pick(ctx, in.to, route.Request{Size: ackRoom})
	if err != nil {
		return false
	}
	var body wire.AckBody
	now := time.Now()
	in.mu.Lock()
	in.acks.Fill(&body, now)
	in.mu.Unlock()
	m, _, err := in.est.Sealer.SealAck(&body, now)
	if err != nil { // the stream is past its limits
		in.end()
		return true
	}
	if in.e.cfg.Forwarder.Send(ctx, d, m) == nil {
		in.e.count.stage.Out.Inc()
	}
	return true
}

// expired reports whether the stream has nothing to wait for any more.
func (in *inbound) expired(now time.Time) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case !in.confirmed:
		return now.Sub(in.born) >= pendingLife
	case !in.closedAt.IsZero():
		return now.Sub(in.closedAt) >= lateLife
	}
	return now.Sub(in.born) >= HardAge+lateAge
}

// end forgets the stream at once.
func (in *inbound) end() {
	in.mu.Lock()
	if in.ended {
		in.mu.Unlock()
		return
	}
	in.ended = true
	confirmed := in.confirmed
	in.mu.Unlock()
	in.e.in.remove(in.est.ID)
	in.cancel()
	if s := in.sink.Load(); s != nil {
		(*s).Close()
	}
	if !confirmed {
		in.e.release(in.record.ID())
	}
}

// progress describes the stream for Peers; ok is false once the peer has closed it, and
// before the first data.
func (in *inbound) progress() (got uint64, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.got, in.confirmed && in.closedAt.IsZero()
}
