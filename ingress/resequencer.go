package ingress

import (
	"slices"
	"time"
)

// window is how far a message's number may be ahead of the floor (protocol section 3,
// "Replay window").
const window = 8192

// maxAhead is how far a message's number may be ahead of the next one to deliver. It is more
// than the window, since the floor may have moved on while nothing was taken.
const maxAhead = 2 * window

// maxGaps bounds how many gaps are remembered to measure how late their messages are.
const maxGaps = 1024

// Outcome says what became of a message that a Resequencer was given.
type Outcome uint8

// The outcomes of Add.
const (
	// Ordered says that Next returns the message in its turn.
	Ordered Outcome = iota
	// Late says that its turn has passed: it is to be delivered at once. It was not kept.
	Late
	// Duplicate says that its number has come before, or was given up. It was not kept.
	Duplicate
	// Beyond says that its number is too far ahead. It was not kept.
	Beyond
)

// Resequencer puts the messages of one stream back in order. It is a pure machine: it has no
// goroutine and no clock, and is not safe for concurrent use. Add gives it messages as they
// come; Next is then called until it has nothing, and again at the time that Deadline says.
//
// A message that overtook others is held for them, but no longer than Hold says; then they are
// skipped, and are Late when they come. Numbers below a floor are not waited for. Each number
// leaves it at most once, as the result of Next or as a Late one; but for the late ones, in
// order.
type Resequencer[T any] struct {
	est   estimator
	next  uint64 // the lowest number neither taken nor passed over
	high  uint64 // one above the highest number that has come
	floor uint64

	ring     []slot[T] // the slot of number n is ring[n%len], for next <= n < next+len
	arrivals []arrival // of the messages in ring, in order of arrival; arrivals[first:]
	first    int
	gaps     []gap // that the newest messages left when they came, in order; gaps[gone:]
	gone     int

	skips   uint64              // numbers skipped
	skipped [window / 64]uint64 // a bit for each number in [next-window, next): skipped and not come since
}

type slot[T any] struct {
	v     T
	state slotState
}

type slotState uint8

const (
	empty slotState = iota
	held            // a message
	void            // a number that bears none
)

type arrival struct {
	number uint64
	at     time.Time
}

// gap is the numbers from from to before to, which were overtaken at a time.
type gap struct {
	from, to uint64
	at       time.Time
}

// NewResequencer returns a Resequencer for a stream that starts with number 0.
func NewResequencer[T any](h Hold) *Resequencer[T] {
	return &Resequencer[T]{est: estimator{Hold: h.withDefaults()}}
}

// Add gives a message that arrived at now, with its number and the floor that it states.
// missing reports that it left a gap behind it that was not there before.
func (r *Resequencer[T]) Add(now time.Time, number, floor uint64, v T) (o Outcome, missing bool) {
	r.floor = max(r.floor, floor)
	return r.arrive(now, number, slot[T]{v, held})
}

// Pass says that a number bears no message for us, with the floor that came with it. missing is
// that of Add.
func (r *Resequencer[T]) Pass(now time.Time, number, floor uint64) (missing bool) {
	r.floor = max(r.floor, floor)
	_, missing = r.arrive(now, number, slot[T]{state: void})
	return missing
}

func (r *Resequencer[T]) arrive(now time.Time, number uint64, s slot[T]) (o Outcome, missing bool) {
	switch {
	case number < r.next:
		if !r.unskip(number) {
			return Duplicate, false
		}
		r.measure(now, number)
		return Late, false
	case number-r.next >= maxAhead:
		return Beyond, false
	}
	r.reserve(number)
	at := r.at(number)
	if at.state != empty {
		return Duplicate, false
	}
	*at = s
	if s.state == held {
		r.queue(arrival{number, now})
	}
	if number < r.high {
		r.measure(now, number)
		return Ordered, false
	}
	if from := max(r.high, r.floor); from < number {
		r.remember(gap{from, number, now})
		missing = true
	}
	r.high = number + 1
	return Ordered, missing
}

// queue notes an arrival, in the room of those that have been taken if there is any.
func (r *Resequencer[T]) queue(a arrival) {
	if len(r.arrivals) == cap(r.arrivals) && r.first > len(r.arrivals)/2 {
		r.arrivals = r.arrivals[:copy(r.arrivals, r.arrivals[r.first:])]
		r.first = 0
	}
	r.arrivals = append(r.arrivals, a)
}

// Next returns the next message in order, if it is here or the ones before it are not worth
// waiting for at now.
func (r *Resequencer[T]) Next(now time.Time) (v T, ok bool) {
	due := r.due(now)
	for ; r.next < r.high; r.next++ {
		at := r.at(r.next)
		was := *at
		*at = slot[T]{}
		switch {
		case was.state == held:
			r.mark(false)
			r.next++
			r.tidy()
			return was.v, true
		case was.state == void || r.next < r.floor:
			r.mark(false)
		case r.next < due:
			r.mark(true)
			r.skips++
		default:
			return v, false
		}
	}
	r.pass()
	return v, false
}

// pass moves up to the floor when nothing is held.
func (r *Resequencer[T]) pass() {
	if r.floor > r.next+window {
		r.skipped = [window / 64]uint64{}
		r.next = r.floor
	}
	for ; r.next < r.floor; r.next++ {
		r.mark(false)
	}
	r.high = max(r.high, r.next)
	r.tidy()
}

// Deadline is when Next has something although nothing more has come; ok is false if it never
// has. It holds until the next call of another method.
func (r *Resequencer[T]) Deadline(now time.Time) (at time.Time, ok bool) {
	if r.first == len(r.arrivals) {
		return at, false
	}
	return r.arrivals[r.first].at.Add(r.est.hold(now)), true
}

// Position is the lowest number that Next has neither returned nor passed over.
func (r *Resequencer[T]) Position() uint64 { return r.next }

// Skipped is how many numbers were skipped, come late or not.
func (r *Resequencer[T]) Skipped() uint64 { return r.skips }

// Drain takes out the messages that are held, in order, without regard to gaps.
func (r *Resequencer[T]) Drain() (v T, ok bool) {
	for ; r.next < r.high; r.next++ {
		at := r.at(r.next)
		was := *at
		*at = slot[T]{}
		r.mark(false)
		if was.state == held {
			r.next++
			r.tidy()
			return was.v, true
		}
	}
	return v, false
}

// due is the number of the message that has been held the longest, if that is long enough;
// what is missing before it is skipped.
func (r *Resequencer[T]) due(now time.Time) uint64 {
	if at, ok := r.Deadline(now); ok && !now.Before(at) {
		return r.arrivals[r.first].number
	}
	return 0
}

// tidy forgets what has been taken, and gives a large ring back.
func (r *Resequencer[T]) tidy() {
	for r.first < len(r.arrivals) && r.arrivals[r.first].number < r.next {
		r.first++
	}
	if r.first == len(r.arrivals) {
		r.arrivals, r.first = r.arrivals[:0], 0
		if r.next == r.high && len(r.ring) > 256 {
			r.ring, r.arrivals = nil, nil
		}
	}
}

func (r *Resequencer[T]) at(number uint64) *slot[T] { return &r.ring[number%uint64(len(r.ring))] }

// reserve makes the ring large enough for number.
func (r *Resequencer[T]) reserve(number uint64) {
	need := number - r.next + 1
	if need <= uint64(len(r.ring)) {
		return
	}
	size := uint64(max(len(r.ring), 32))
	for size < need {
		size *= 2
	}
	old := r.ring
	r.ring = make([]slot[T], size)
	for i := range uint64(len(old)) {
		n := r.next + i
		*r.at(n) = old[n%uint64(len(old))]
	}
}

// mark notes of number next whether it is skipped.
func (r *Resequencer[T]) mark(skipped bool) {
	word, bit := &r.skipped[r.next/64%(window/64)], uint64(1)<<(r.next%64)
	*word &^= bit
	if skipped {
		*word |= bit
	}
}

// unskip reports whether a number below next was skipped and had not come yet.
func (r *Resequencer[T]) unskip(number uint64) bool {
	if r.next-number > window {
		return false
	}
	word, bit := &r.skipped[number/64%(window/64)], uint64(1)<<(number%64)
	was := *word&bit != 0
	*word &^= bit
	return was
}

// remember keeps a gap, to measure its messages when they come.
func (r *Resequencer[T]) remember(g gap) {
	for r.gone < len(r.gaps) && (len(r.gaps)-r.gone >= maxGaps || g.at.Sub(r.gaps[r.gone].at) > r.est.Window) {
		r.gone++
	}
	if r.gone > 0 && len(r.gaps) == cap(r.gaps) {
		r.gaps = r.gaps[:copy(r.gaps, r.gaps[r.gone:])]
		r.gone = 0
	}
	r.gaps = append(r.gaps, g)
}

// measure counts how late a message is that others overtook.
func (r *Resequencer[T]) measure(now time.Time, number uint64) {
	gaps := r.gaps[r.gone:]
	i, ok := slices.BinarySearchFunc(gaps, number, func(g gap, n uint64) int {
		switch {
		case g.to <= n:
			return -1
		case g.from > n:
			return 1
		}
		return 0
	})
	if ok {
		r.est.add(now, now.Sub(gaps[i].at))
	}
}
