package stream

import (
	"context"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/route"
)

// What peer.keep has to do about a stream.
type task uint8

const (
	taskNone task = iota
	taskRestart
	taskRotate
	taskClose
	taskProbe
)

// decide says what is due. A restart comes before what the policy wants: it is the rule of
// protocol section 3 and not to be chosen. opening says that a successor is under way.
func (o *outbound) decide(now time.Time, opening bool) task {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return taskNone
	}
	if o.state.Outstanding() == 0 {
		o.restart.Idle()
	}
	if !opening && o.restart.Due(now, o.state.PTO()) {
		o.restart.Restarted(now)
		return taskRestart
	}
	if o.retired && !opening { // a hard limit, or a failure to sign
		return taskRotate
	}
	switch o.peer.e.cfg.Policy.Decide(o.observation(now, opening)) {
	case Rotate:
		if !opening {
			return taskRotate
		}
	case Close:
		if !opening {
			return taskClose
		}
	}
	if o.waiting > 0 && !now.Before(o.probeAt) {
		o.probeAt = now.Add(o.state.PTO())
		return taskProbe
	}
	return taskNone
}

func (o *outbound) observation(now time.Time, opening bool) Observation {
	return Observation{
		Open: true, Rotating: opening, Age: now.Sub(o.born), Messages: o.sealer.Next(), Bytes: o.bytes,
		Idle: now.Sub(o.lastData), SRTT: o.state.SRTT(),
		Outstanding: o.state.Outstanding(), Waiting: o.waiting + o.sending, Draw: o.draw,
	}
}

// busy reports whether something is under way that needs to be watched closely.
func (o *outbound) busy() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.ended && (o.waiting > 0 || o.state.Outstanding() > 0)
}

// probe asks for an acknowledgement, which tells the window.
func (o *outbound) probe() {
	o.sendControl(o.peer.e.life, func(floor uint64, now time.Time) (*buffer.Buf, uint64, error) {
		return o.sealer.SealProbe(floor, nil, now)
	}, wire.KindProbe)
}

// repair gives up what is too old and sends what is lost again, unchanged, over another hop
// if there is one.
func (o *outbound) repair(now time.Time) {
	o.mu.Lock()
	if o.ended {
		o.mu.Unlock()
		return
	}
	expired := o.state.Expire(now)
	lost := append(o.numbers[:0], o.orphans...)
	o.orphans = o.orphans[:0]
	lost = o.state.Lost(now, lost)
	if d := o.state.PTODeadline(); len(lost) == 0 && !d.IsZero() && !now.Before(d) {
		lost = o.state.Oldest(2, lost)
		o.state.TimedOut(now)
	}
	o.numbers = lost
	freed := o.settle()
	o.mu.Unlock()
	e := o.peer.e
	e.kept.Release(freed)
	if expired > 0 {
		e.count.expired.Add(uint64(expired))
		signal(o.room)
	}
	for _, n := range lost {
		o.resend(n)
	}
}

// hopDied marks what went over a hop that died for sending again at once.
func (o *outbound) hopDied(hop identity.ID) {
	o.mu.Lock()
	n := len(o.orphans)
	if !o.ended {
		o.orphans = o.state.LostOver(hop, o.orphans)
	}
	more := len(o.orphans) > n
	o.mu.Unlock()
	if more {
		o.peer.nudge()
	}
}

// resend sends the kept copy of a message again.
func (o *outbound) resend(number uint64) {
	o.mu.Lock()
	if o.ended {
		o.mu.Unlock()
		return
	}
	kept, hop := o.state.Kept(number)
	o.mu.Unlock()
	if kept == nil {
		return
	}
	defer kept.Release()
	e := o.peer.e
	ctx, cancel := context.WithTimeout(e.life, resendWait)
	defer cancel()
	d, err := e.cfg.Forwarder.Pick(ctx, o.dest, route.Request{Size: kept.Len(), Flow: o.flow, Avoid: hop})
	if err != nil {
		return // it stays outstanding, and is tried again or expires
	}
	now := time.Now()
	o.mu.Lock()
	o.state.Resent(number, d.NextHop, now)
	o.mu.Unlock()
	e.cfg.Forwarder.Observe(route.Observation{Now: now, To: o.dest.ID, Hop: hop, Outcome: route.Lost, Size: kept.Len()})
	e.count.resent.Inc()
	_ = e.cfg.Forwarder.Send(ctx, d, kept.Retain())
}

// resendWait bounds the wait for room when a message is sent again.
const resendWait = 250 * time.Millisecond
