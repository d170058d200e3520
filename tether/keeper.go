package tether

import (
	"time"

	"github.com/veil-net/anchor/internal/buffer"
)

// keep is the keeper of a tether: it sends heartbeats in time, ends the tether when the peer
// is silent, unwanted or not needed, and cleans up after the end.
func (t *tether) keep() {
	k := keeper{t: t, traffic: t.since, nextBeat: t.since}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for t.alive() {
		select {
		case <-timer.C:
		case <-t.wake:
		case <-t.done:
			continue
		}
		timer.Reset(time.Until(k.look(time.Now())))
	}
	t.changed()
	t.finish()
}

// finish has the link closed, waits for reader and writer, and says so; it is the last that
// the tether does. The link may take longer, which is nobody's concern but Manager.Close's.
func (t *tether) finish() {
	t.env.closing.Go(t.link.close)
	t.workers.Wait()
	var one [1]*buffer.Buf
	for t.queue.TryPop(one[:]) == 1 {
		t.env.count.unsent.Inc()
		one[0].Release()
	}
	close(t.finished)
}

// keeper is the state of keep.
type keeper struct {
	t         *tether
	messages  uint64    // sent and received, at the last look
	traffic   time.Time // of the look that last saw more
	nextBeat  time.Time
	nextCheck time.Time
	ackBy     time.Time // zero: nothing to acknowledge
}

// look does what is due and returns when to look again.
func (k *keeper) look(now time.Time) time.Time {
	t := k.t
	if n := t.sent.Load() + t.received.Load() + uint64(t.queue.Len()); n != k.messages {
		k.messages, k.traffic = n, now
		t.traffic.Store(int64(now.Sub(t.since)))
		if !t.busy.Swap(true) {
			k.nextBeat = now // so that the peer knows, and beats faster too
			t.mu.Lock()
			t.pulse.hurry()
			t.mu.Unlock()
		}
	}
	interval := busyBeat
	if now.Sub(k.traffic) >= busyFor {
		t.busy.Store(false)
		interval = idleBeat
	}
	next := k.beat(now, interval)

	heard := t.link.heard()
	t.mu.Lock()
	dead := t.pulse.tick(now, heard, interval)
	next = t.pulse.arm(next, interval)
	quiet := t.pulse.quiet
	t.mu.Unlock()

	switch {
	case dead:
		t.env.count.deaths.Inc()
		t.env.log.Info("tether is dead", "peer", t.id.Short(), "silent", quiet)
		t.end(errSilent)
	case now.Sub(k.traffic) >= t.env.idle && t.env.mayIdle():
		t.end(errIdle)
	case !now.Before(k.nextCheck):
		k.nextCheck = now.Add(checkEvery)
		if err := t.env.check(t.cert); err != nil {
			t.env.log.Warn("tether ends: peer is no member any more", "peer", t.id.Short(), "err", err)
			t.end(err)
		}
	}
	return next
}

// beat has the writer send a heartbeat if one is due, and returns when the next one is.
func (k *keeper) beat(now time.Time, interval time.Duration) time.Time {
	if k.t.unacked.Load() == 0 {
		k.ackBy = time.Time{}
	} else if k.ackBy.IsZero() {
		k.ackBy = now.Add(ackDelay)
	}
	if k.nextBeat.After(now.Add(interval)) {
		k.nextBeat = now.Add(interval) // busy again
	}
	if ack := !k.ackBy.IsZero() && !now.Before(k.ackBy); ack || !now.Before(k.nextBeat) {
		signal(k.t.beat)
		k.nextBeat, k.ackBy = now.Add(interval), time.Time{}
	}
	if !k.ackBy.IsZero() && k.ackBy.Before(k.nextBeat) {
		return k.ackBy
	}
	return k.nextBeat
}
