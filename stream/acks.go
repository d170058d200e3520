package stream

import (
	"math"
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

const (
	// AckDelay is the longest that an arrival waits for its acknowledgement.
	AckDelay = 25 * time.Millisecond
	// ackMessages is the number of arrivals that are acknowledged at once.
	ackMessages = 32
	// arrivals is the number of newest messages whose arrival times are kept for copies.
	arrivals = 1024
)

// GrantRule decides how many bytes beyond what was consumed a stream's sender may send.
type GrantRule interface {
	// Ahead returns that number for a stream of which consumed bytes have left the Sink.
	Ahead(consumed uint64, now time.Time) uint64
}

// FixedGrant is a GrantRule of so many bytes, always.
type FixedGrant uint64

// Ahead implements GrantRule.
func (g FixedGrant) Ahead(uint64, time.Time) uint64 { return uint64(g) }

// GenerousGrant is the window of every stream while windows do not grow and shrink: the
// largest that the protocol allows.
const GenerousGrant FixedGrant = 8 << 20

// AckState is what the receiving end of a stream knows of its arrivals: it says when an
// acknowledgement is due, and fills it. It is not safe for concurrent use.
type AckState struct {
	rule  GrantRule
	start time.Time

	seen     [Window / 64]uint64 // arrived, cumulative and above
	next     uint64              // below it everything arrived or was given up
	top      uint64              // highest arrival + 1
	topAt    time.Time           // when it arrived
	arrived  uint64              // bytes of data messages
	consumed uint64              // of them, that left the Sink
	told     uint64              // the grant in the last acknowledgement

	pending   int       // arrivals not acknowledged
	since     time.Time // of the first of them
	urgent    bool      // acknowledge at once
	arrivedAt uint64    // arrived, at the last acknowledgement
	aheadAt   uint64    // grant told then, beyond arrived

	times   [arrivals]arrival
	copies  [wire.MaxAckCopies]wire.AckCopy
	ncopies int
}

// arrival is when a message came, in microseconds after the stream's start; both fit 32 bits
// within the hard limits.
type arrival struct{ number, us uint32 }

// flagged marks an arrival's us: the message came with the probe flag.
const flagged = 1 << 31

// NewAckState returns the state of a stream accepted at start with a grant of so many bytes.
func NewAckState(rule GrantRule, grant uint64, start time.Time) *AckState {
	a := &AckState{rule: rule, told: grant, aheadAt: grant, start: start}
	for i := range a.times {
		a.times[i].number = math.MaxUint32
	}
	return a
}

// Arrived records an authenticated message of the initiator's direction that came at at: its
// kind, number and floor (0 if its kind has none) and its size, envelope included. Data
// counts against the grant. A probe and a close are acknowledged at once.
func (a *AckState) Arrived(kind wire.Kind, number, floor uint64, size int, at time.Time) {
	if kind == wire.KindData {
		a.arrived += uint64(size)
	}
	if a.pending == 0 {
		a.since = at
	}
	a.pending++
	if kind == wire.KindProbe || kind == wire.KindClose || a.pending >= ackMessages ||
		a.arrived-a.arrivedAt >= max(a.aheadAt/4, 1) {
		a.urgent = true
	}
	a.record(number, floor, at)
}

// record notes that message number arrived.
func (a *AckState) record(number, floor uint64, at time.Time) {
	if number < a.next { // passed over meanwhile, by a message opened at the same time
		return
	}
	if number >= Window {
		floor = max(floor, number-(Window-1)) // see replay.mark
	}
	a.skipTo(floor)
	a.seen[number/64%uint64(len(a.seen))] |= 1 << (number % 64)
	a.settle()
	if number >= a.top {
		a.top, a.topAt = number+1, at
	}
	a.times[number%arrivals] = arrival{uint32(number), a.us(at)}
}

// skipTo counts the numbers below floor as received.
func (a *AckState) skipTo(floor uint64) {
	for ; a.next < floor; a.next++ {
		a.seen[a.next/64%uint64(len(a.seen))] &^= 1 << (a.next % 64)
	}
}

// settle moves next over what arrived without a gap.
func (a *AckState) settle() {
	for {
		word := &a.seen[a.next/64%uint64(len(a.seen))]
		bit := uint64(1) << (a.next % 64)
		if *word&bit == 0 {
			return
		}
		*word &^= bit
		a.next++
	}
}

// Flagged says that message number, as it arrived first, bears the envelope's probe flag: it
// is the copy, and the message itself may follow. Call it after Arrived.
func (a *AckState) Flagged(number uint64) {
	if t := &a.times[number%arrivals]; uint64(t.number) == number {
		t.us |= flagged
	}
}

// Copy records that message number, which the Opener called a duplicate, came once more at at;
// probe says whether it bears the probe flag this time. If one of the two does, the next
// acknowledgement tells how far apart they came; two without are a message sent again. Flags
// and duplicates are not authenticated: copies are hints.
func (a *AckState) Copy(number uint64, probe bool, at time.Time) {
	t := a.times[number%arrivals]
	first := t.us&flagged != 0
	if uint64(t.number) != number || first == probe || a.ncopies == len(a.copies) {
		return
	}
	offset := int64(a.us(at)) - int64(t.us&^flagged)
	if first {
		offset = -offset
	}
	a.copies[a.ncopies] = wire.AckCopy{Number: number, Offset: int32(offset)}
	a.ncopies++
}

// us is at in microseconds after the start.
func (a *AckState) us(at time.Time) uint32 {
	return uint32(min(max(at.Sub(a.start).Microseconds(), 0), math.MaxInt32))
}

// Missing says that the Sink waits for a message that others overtook: an acknowledgement is
// due at once. Arrivals out of order are none by themselves, since hops differ and messages
// are opened in parallel.
func (a *AckState) Missing() { a.urgent = true }

// Consumed says that size bytes of data messages have left the Sink. If the sender is close
// to the end of its window, that is told at once.
func (a *AckState) Consumed(size int, now time.Time) {
	a.consumed += uint64(size)
	ahead := a.rule.Ahead(a.consumed, now)
	if a.Room() < ahead/4 && a.consumed+ahead >= a.told+ahead/4 {
		a.urgent = true
	}
}

// Due reports whether an acknowledgement is to be sent at now.
func (a *AckState) Due(now time.Time) bool {
	d := a.Deadline()
	return a.urgent || !d.IsZero() && !now.Before(d)
}

// Deadline is when the next acknowledgement is due: the start's time if at once, zero if
// nothing is to be acknowledged.
func (a *AckState) Deadline() time.Time {
	switch {
	case a.urgent:
		return a.start
	case a.pending > 0:
		return a.since.Add(AckDelay)
	}
	return time.Time{}
}

// Room is the number of bytes that the sender may still send, as far as was told to it.
func (a *AckState) Room() uint64 { return a.told - min(a.told, a.arrived) }

// Fill writes the acknowledgement to send at now into b, and takes it as sent.
func (a *AckState) Fill(b *wire.AckBody, now time.Time) {
	a.told = max(a.told, a.consumed+a.rule.Ahead(a.consumed, now))
	b.Reset()
	b.Grant, b.Cumulative = a.told, a.next
	if a.top > 0 {
		b.Delay = uint32(min(max(now.Sub(a.topAt).Microseconds(), 0), math.MaxUint32))
	}
	a.fillRanges(b)
	for _, c := range a.copies[:a.ncopies] {
		b.AddCopy(c.Number, c.Offset)
	}
	a.ncopies, a.pending, a.urgent = 0, 0, false
	a.arrivedAt, a.aheadAt = a.arrived, a.Room()
}

// fillRanges writes the runs above the cumulative number. If there are more than fit, it
// leaves out the oldest: those will be acknowledged later, the newest tell of loss.
func (a *AckState) fillRanges(b *wire.AckBody) {
	var runs [wire.MaxAckRanges]struct{ from, to uint64 }
	n := 0
	for at := a.top; at > a.next && n < len(runs); n++ {
		to := a.runDown(at, false)
		if to <= a.next {
			break
		}
		from := a.runDown(to, true)
		runs[n].from, runs[n].to = from, to
		at = from
	}
	last := a.next
	for i := n - 1; i >= 0; i-- {
		b.AddRange(uint32(runs[i].from-last), uint32(runs[i].to-runs[i].from))
		last = runs[i].to
	}
}

// runDown returns the lowest number m <= at such that all of [m, at) above next have arrived,
// or have not, as set says.
func (a *AckState) runDown(at uint64, set bool) uint64 {
	for at > a.next {
		n := at - 1
		word := a.seen[n/64%uint64(len(a.seen))]
		if n%64 == 63 && n-63 >= a.next && (set && word == math.MaxUint64 || !set && word == 0) {
			at = n - 63
			continue
		}
		if word&(1<<(n%64)) != 0 != set {
			return at
		}
		at = n
	}
	return at
}
