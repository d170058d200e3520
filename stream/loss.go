package stream

import (
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
)

const (
	// lossOrder is how many later messages over the same hop are acknowledged before a message
	// counts as lost.
	lossOrder = 3
	// minReorder is the least time that it is waited for after that; srtt/4 if that is longer.
	minReorder = 20 * time.Millisecond
)

// hopState is what a stream's sender knows of its messages over one hop.
type hopState struct {
	id     identity.ID
	orders uint32            // messages sent over it
	top    [lossOrder]uint32 // orders + 1 of the highest acknowledged, descending; 0 if none
}

// acked notes that the message of that order was acknowledged.
func (h *hopState) acked(order uint32) {
	order++
	for i, t := range h.top {
		if order > t {
			copy(h.top[i+1:], h.top[i:])
			h.top[i] = order
			return
		}
	}
}

// overtaken reports whether 3 messages later than that of order were acknowledged.
func (h *hopState) overtaken(order uint32) bool { return order+1 < h.top[lossOrder-1] }

// over returns the index of a hop and the order of the next message over it.
func (s *SendState) over(id identity.ID) (hop uint16, order uint32) {
	for i := range s.hops {
		if s.hops[i].id == id {
			s.hops[i].orders++
			return uint16(i), s.hops[i].orders - 1
		}
	}
	s.hops = append(s.hops, hopState{id: id, orders: 1})
	return uint16(len(s.hops) - 1), 0
}

// Lost appends the messages to numbers that count as lost at now: 3 later ones over the same
// hop are acknowledged and max(20 ms, srtt/4) passed since. Each call reports a message
// again until it is resent or given up.
func (s *SendState) Lost(now time.Time, numbers []uint64) []uint64 {
	at := now.Sub(s.start)
	reorder := max(minReorder, s.rtt.smoothed/4)
	for n := s.base; n < s.next; n++ {
		o := s.at(n)
		switch {
		case o.state != outstanding || !s.hops[o.hop].overtaken(o.order):
		case o.suspect == 0:
			o.suspect = at
		case at-o.suspect >= reorder:
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// LostOver appends the outstanding messages to numbers that went over hop, which has died.
func (s *SendState) LostOver(hop identity.ID, numbers []uint64) []uint64 {
	for n := s.base; n < s.next; n++ {
		if o := s.at(n); o.state == outstanding && s.hops[o.hop].id == hop {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// Oldest appends up to count outstanding messages to numbers, lowest first.
func (s *SendState) Oldest(count int, numbers []uint64) []uint64 {
	for n := s.base; n < s.next && count > 0; n++ {
		if s.at(n).state == outstanding {
			numbers = append(numbers, n)
			count--
		}
	}
	return numbers
}

// Kept returns the sealed message of an outstanding number, with a reference for the caller,
// and the hop that it went over; nil if it is not kept.
func (s *SendState) Kept(number uint64) (*buffer.Buf, identity.ID) {
	if number < s.base || number >= s.next {
		return nil, identity.ID{}
	}
	o := s.at(number)
	if o.state != outstanding || o.kept == nil {
		return nil, identity.ID{}
	}
	return o.kept.Retain(), s.hops[o.hop].id
}

// Resent records that an outstanding message was sent again, over hop at at.
func (s *SendState) Resent(number uint64, hop identity.ID, at time.Time) {
	if number < s.base || number >= s.next {
		return
	}
	o := s.at(number)
	if o.state != outstanding {
		return
	}
	o.hop, o.order = s.over(hop)
	o.sent, o.suspect, o.resent = at.Sub(s.start), 0, true
}

// Expire gives up the outstanding messages whose oldest packet was read more than MaxAge
// before now, and returns how many those were.
func (s *SendState) Expire(now time.Time) int {
	limit := now.Add(-MaxAge).Sub(s.start)
	expired := 0
	for n := s.base; n < s.next; n++ {
		if o := s.at(n); o.state == outstanding && o.born < limit {
			s.GiveUp(n)
			expired++
		}
	}
	return expired
}

// PTO is the probe time-out of the stream without its doubling: max(300 ms, srtt + 4 rttvar +
// 25 ms).
func (s *SendState) PTO() time.Duration { return s.rtt.pto() }

// PTODeadline is when the probe time-out ends: nothing newly acknowledged for PTO, doubled
// with each TimedOut up to 2 s, while messages are outstanding. It is zero while none is.
func (s *SendState) PTODeadline() time.Time {
	if s.out == 0 {
		return time.Time{}
	}
	pto := s.rtt.pto()
	return s.start.Add(s.heard + max(pto, min(pto<<min(s.backoff, 8), maxPTO)))
}

// TimedOut says that the probe time-out was acted upon at now: it starts again, doubled.
func (s *SendState) TimedOut(now time.Time) {
	s.heard = now.Sub(s.start)
	s.backoff++
}
