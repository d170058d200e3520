package tether

import (
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

const (
	// busyBeat and idleBeat are the intervals of heartbeats while messages go either way, and
	// while none does.
	busyBeat, idleBeat = 100 * time.Millisecond, time.Second
	// busyFor is how long after the last message a tether counts as busy.
	busyFor = 2 * time.Second
	// minRTO is the least retransmission timeout that we count on: that of SCTP below us, which
	// repairs a burst that was lost whole no sooner than that (RFC 9260 section 6.3.1).
	minRTO = time.Second
	// maxRTO bounds what a path with wild delays can make of the timeout.
	maxRTO = 3 * time.Second
	// lateTick is how late our own timer may be and still have its lateness counted as silence
	// of the peer: beyond it this process was not running either.
	lateTick = 50 * time.Millisecond
	// minRTTWindow is the time over which the least round trip is kept.
	minRTTWindow = 10 * time.Second
)

// pulse is what one end of a tether knows of the other's life and of the round trip: a
// machine without clock, lock and I/O.
//
// A tether is dead when nothing authenticated came for max(3 heartbeats, 2 RTO), where RTO =
// srtt + 4 rttvar (RFC 6298), at least minRTO: 2 s while busy, 3 s while idle, more on paths
// with long or varying round trips, up to 6 s. Silence is counted in ticks of our own timer:
// a tick that comes late because this process was starved or stopped counts for what it
// should have been, so that we do not take our own sleep for the peer's death.
type pulse struct {
	// What we sent.
	number uint32
	sent   [64]struct {
		number uint32
		at     time.Time
	}

	// What came.
	echo   uint32 // the newest heartbeat's number
	echoAt time.Time
	bitmap uint64
	echoed uint32 // the newest of ours that was echoed

	srtt, rttvar time.Duration
	least        [2]time.Duration // of this half of minRTTWindow and of the one before; 0 if none
	leastAt      time.Time        // when this half began

	heard   uint64        // authenticated bytes, as of the last tick
	heardAt time.Time     // the tick at which they last grew
	quiet   time.Duration // since then, by ticks
	ticked  time.Time
	due     time.Time // when the next tick should come
}

// start begins counting silence.
func (p *pulse) start(now time.Time) {
	p.heardAt, p.ticked, p.due, p.leastAt = now, now, now, now
}

// beat makes our next heartbeat, but for the reports.
func (p *pulse) beat(now time.Time) wire.Heartbeat {
	if p.number++; p.number == 0 {
		p.number = 1
	}
	s := &p.sent[p.number%uint32(len(p.sent))]
	s.number, s.at = p.number, now
	h := wire.Heartbeat{Number: p.number, Echo: p.echo}
	if p.echo != 0 {
		h.Hold = uint32(min(max(now.Sub(p.echoAt).Microseconds(), 0), 1<<32-1))
	}
	return h
}

// take takes a heartbeat of the peer.
func (p *pulse) take(now time.Time, h *wire.Heartbeat) {
	switch ahead := int32(h.Number - p.echo); {
	case p.echo == 0:
		p.echo, p.echoAt, p.bitmap = h.Number, now, 1
	case ahead > 0: // serial number arithmetic (RFC 1982)
		p.echo, p.echoAt = h.Number, now
		if ahead < 64 {
			p.bitmap = p.bitmap<<ahead | 1
		} else {
			p.bitmap = 1
		}
	case -ahead < 64:
		p.bitmap |= 1 << -ahead
	}
	s := &p.sent[h.Echo%uint32(len(p.sent))]
	if h.Echo == 0 || s.number != h.Echo || p.echoed != 0 && int32(h.Echo-p.echoed) <= 0 {
		return // nothing echoed, too old to know, or echoed before
	}
	p.echoed = h.Echo
	p.sample(now, max(now.Sub(s.at)-time.Duration(h.Hold)*time.Microsecond, time.Microsecond))
}

// sample takes a round trip time (RFC 6298 section 2).
func (p *pulse) sample(now time.Time, rtt time.Duration) {
	if p.srtt == 0 {
		p.srtt, p.rttvar = rtt, rtt/2
	} else {
		p.rttvar += ((p.srtt - rtt).Abs() - p.rttvar) / 4
		p.srtt += (rtt - p.srtt) / 8
	}
	p.turn(now)
	if p.least[0] == 0 || rtt < p.least[0] {
		p.least[0] = rtt
	}
}

// turn begins a new half of the window for the least round trip when it is time.
func (p *pulse) turn(now time.Time) {
	switch age := now.Sub(p.leastAt); {
	case age >= minRTTWindow:
		p.least, p.leastAt = [2]time.Duration{}, now
	case age >= minRTTWindow/2:
		p.least, p.leastAt = [2]time.Duration{0, p.least[0]}, p.leastAt.Add(minRTTWindow/2)
	}
}

// minRTT is the least round trip of the last 5 to 10 s; 0 while unknown.
func (p *pulse) minRTT(now time.Time) time.Duration {
	p.turn(now)
	if p.least[0] == 0 || p.least[1] != 0 && p.least[1] < p.least[0] {
		return p.least[1]
	}
	return p.least[0]
}

// rto is how long to wait for an answer.
func (p *pulse) rto() time.Duration {
	return min(max(p.srtt+4*p.rttvar, minRTO), maxRTO)
}

// bound is the silence that means death, given the interval of heartbeats.
func (p *pulse) bound(interval time.Duration) time.Duration { return max(3*interval, 2*p.rto()) }

// hurry starts counting silence anew because the peer is about to hear from us and to send
// heartbeats faster.
func (p *pulse) hurry() { p.quiet = 0 }

// tick counts silence up to now; heard is the count of authenticated bytes. It reports
// whether the silence is longer than the bound.
func (p *pulse) tick(now time.Time, heard uint64, interval time.Duration) (dead bool) {
	if heard != p.heard {
		p.heard, p.heardAt, p.quiet = heard, now, 0
	} else {
		late := max(now.Sub(p.due), 0)
		p.quiet += max(now.Sub(p.ticked)-late, 0) + min(late, lateTick)
	}
	p.ticked = now
	return p.quiet >= p.bound(interval)
}

// arm says that the next tick is to come at a time, or when silence reaches the bound if that
// is sooner, and returns which.
func (p *pulse) arm(at time.Time, interval time.Duration) time.Time {
	if end := p.ticked.Add(p.bound(interval) - p.quiet); end.Before(at) {
		at = end
	}
	p.due = at
	return at
}
