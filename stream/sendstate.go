package stream

import (
	"fmt"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// MaxAge is how long a packet may be under way, from the read at its source.
const MaxAge = 2 * time.Second

// SendState is what the sending end of a stream knows of its messages: which are outstanding,
// over which hop they went, how much may be sent, and the round-trip time. Its user calls
// Reserve, seals, calls Sent before it hands the message on, and passes acknowledgements to
// Ack. It is not safe for concurrent use, and allocates nothing once it has grown to the
// number of messages outstanding.
type SendState struct {
	start time.Time

	ring []outgoing // by number; its length is a power of two
	base uint64     // all below are acknowledged or given up
	next uint64     // above all numbers recorded
	out  int        // outstanding messages

	grant    uint64 // data bytes that may be sent in all
	used     uint64 // of them, sent
	reserved uint64 // of them, about to be sent
	sealing  int    // reservations for messages about to be sent
	given    []givenUp
	kept     int // bytes of kept messages

	hops    []hopState
	rtt     rtt
	backoff uint          // doublings of the probe time-out
	heard   time.Duration // of the last progress, or the last probe time-out
}

// outgoing is a message that was sent. Times are counted from the stream's start.
type outgoing struct {
	kept    *buffer.Buf // a reference to the sealed message; nil if it is not kept
	sent    time.Duration
	born    time.Duration
	suspect time.Duration // when 3 later messages over its hop were acknowledged; 0 if not yet
	order   uint32        // among the messages over its hop
	size    uint32        // that counts against the grant
	hop     uint16        // index of SendState.hops
	state   outState
	resent  bool
}

type outState uint8

const (
	unsent outState = iota // its number is taken, or will be
	outstanding
	settled // acknowledged or given up
)

// givenUp is a message that no longer counts against the grant, unless it arrives all the
// same before the floor told so, in a message numbered from or above.
type givenUp struct {
	number, from uint64
	size         uint32
}

// NewSendState returns the state of a stream accepted at start with a grant of so many
// bytes; rtt is how long the handshake took, 0 if its open was sent more than once.
func NewSendState(grant uint64, rtt time.Duration, start time.Time) *SendState {
	s := &SendState{start: start, grant: grant, ring: make([]outgoing, 64)}
	if rtt > 0 {
		s.rtt.sample(rtt, 0, 0)
	}
	return s
}

// Window is the number of data bytes that may be reserved now.
func (s *SendState) Window() uint64 {
	return s.grant - min(s.grant, s.used+s.reserved)
}

// spareNumbers are kept from data, for probes and a close when data has used the window up.
const spareNumbers = 64

// Reserve sets size bytes, at least 1, of the window aside for a data message about to be
// sealed. It reports false if the window is too small, or if so many messages are outstanding
// that the Sealer would give no number.
func (s *SendState) Reserve(size int) bool {
	if uint64(size) > s.Window() || s.next-s.base+uint64(s.sealing) >= Window-spareNumbers {
		return false
	}
	s.reserved += uint64(size)
	s.sealing++
	return true
}

// Unreserve gives a reservation back that is not used.
func (s *SendState) Unreserve(size int) {
	s.reserved -= uint64(size)
	s.sealing--
}

// Sent describes a message for SendState.Sent.
type Sent struct {
	Number   uint64
	Kind     wire.Kind // only data counts against the grant
	Size     int       // envelope included
	Reserved int       // what Reserve set aside for it, 0 if nothing
	Hop      identity.ID
	At       time.Time
	Born     time.Time   // the oldest packet's; zero means At
	Kept     *buffer.Buf // a reference for resending, which SendState takes over; may be nil
}

// Sent records a message as outstanding. Call it before the message is handed on: an
// acknowledgement of what was not recorded is malformed.
func (s *SendState) Sent(m Sent) {
	if m.Reserved > 0 {
		s.Unreserve(m.Reserved)
	}
	if m.Number < s.base || m.Number-s.base >= Window {
		if m.Kept != nil {
			m.Kept.Release()
		}
		return // the Sealer gives no such number
	}
	s.reach(m.Number)
	o := s.at(m.Number)
	*o = outgoing{kept: m.Kept, sent: m.At.Sub(s.start), born: m.At.Sub(s.start), state: outstanding}
	if !m.Born.IsZero() {
		o.born = m.Born.Sub(s.start)
	}
	if m.Kind == wire.KindData {
		o.size = uint32(m.Size)
		s.used += uint64(m.Size)
	}
	if m.Kept != nil {
		s.kept += m.Kept.Len()
	}
	o.hop, o.order = s.over(m.Hop)
	if s.out == 0 {
		s.heard = o.sent
	}
	s.out++
}

// at is the ring's place for number, which must be in [base, base+len(ring)).
func (s *SendState) at(number uint64) *outgoing {
	return &s.ring[number&uint64(len(s.ring)-1)]
}

// reach makes the ring cover number and clears what lies between.
func (s *SendState) reach(number uint64) {
	if need := number - s.base + 1; need > uint64(len(s.ring)) {
		size := uint64(len(s.ring))
		for size < need {
			size *= 2
		}
		old := *s
		s.ring = make([]outgoing, size)
		for n := s.base; n < s.next; n++ {
			*s.at(n) = *old.at(n)
		}
	}
	for ; s.next <= number; s.next++ {
		*s.at(s.next) = outgoing{}
	}
}

// Acked is a message that an acknowledgement newly covers.
type Acked struct {
	Number uint64
	Size   int           // that counted against the grant
	Hop    identity.ID   // that it went over, at last
	Took   time.Duration // from its last sending to the acknowledgement
	Resent bool          // it was sent more than once: Took says nothing
}

// Ack takes a valid acknowledgement that came at now, appends the messages that it newly
// covers to acked, and returns that. It fails with ErrMalformed, and changes nothing, if a
// message was never sent. An older acknowledgement that arrives late is taken for what it
// still says.
func (s *SendState) Ack(a *wire.AckBody, now time.Time, acked []Acked) ([]Acked, error) {
	top := a.Top()
	if top > s.next {
		return acked, fmt.Errorf("stream: acknowledgement up to %d of %d: %w", top, s.next, ErrMalformed)
	}
	at := now.Sub(s.start)
	before := len(acked)
	s.grant = max(s.grant, a.Grant)
	s.recount(a, top)
	s.sample(top, time.Duration(a.Delay)*time.Microsecond, at)
	for n := s.base; n < a.Cumulative; n++ {
		acked = s.cover(n, at, acked)
	}
	low := a.Cumulative
	for _, r := range a.Ranges() {
		low += uint64(r.Gap)
		for n := max(low, s.base); n < low+uint64(r.Length); n++ {
			acked = s.cover(n, at, acked)
		}
		low += uint64(r.Length)
	}
	if len(acked) > before {
		s.backoff, s.heard = 0, at
	}
	s.settle()
	return acked, nil
}

// sample measures the round-trip time by the newest message of an acknowledgement, if it
// newly covers it and it was sent but once (Karn's rule).
func (s *SendState) sample(top uint64, delay, at time.Duration) {
	if top == 0 || top-1 < s.base {
		return
	}
	if o := s.at(top - 1); o.state == outstanding && !o.resent {
		s.rtt.sample(at-o.sent, delay, at)
	}
}

// cover settles message n as acknowledged.
func (s *SendState) cover(n uint64, at time.Duration, acked []Acked) []Acked {
	o := s.at(n)
	if o.state != outstanding {
		return acked
	}
	h := &s.hops[o.hop]
	h.acked(o.order)
	acked = append(acked, Acked{
		Number: n, Size: int(o.size), Hop: h.id, Took: at - o.sent, Resent: o.resent,
	})
	s.drop(o)
	return acked
}

// drop settles o and lets its kept copy go.
func (s *SendState) drop(o *outgoing) {
	if o.kept != nil {
		s.kept -= o.kept.Len()
		o.kept.Release()
		o.kept = nil
	}
	o.state = settled
	s.out--
}

// settle moves base over what is settled.
func (s *SendState) settle() {
	for s.base < s.next && s.at(s.base).state == settled {
		s.base++
	}
}

// recount counts a message that was given up against the grant again when an
// acknowledgement shows that it arrived before the floor had passed it.
func (s *SendState) recount(a *wire.AckBody, top uint64) {
	keep := s.given[:0]
	for _, g := range s.given {
		switch {
		case top > g.from && a.Cumulative > g.number: // the floor may have passed it
		case a.Covers(g.number):
			s.used += uint64(g.size)
		default:
			keep = append(keep, g)
		}
	}
	s.given = keep
}

// GiveUp ends the wait for message number: it is not sent again, the floor passes it, and its
// bytes no longer count against the grant.
func (s *SendState) GiveUp(number uint64) {
	if number < s.base || number >= s.next {
		return
	}
	o := s.at(number)
	if o.state != outstanding {
		return
	}
	if o.size > 0 {
		s.used -= uint64(o.size)
		if len(s.given) == Window {
			s.given = s.given[:copy(s.given, s.given[1:])]
		}
		s.given = append(s.given, givenUp{number, s.next, o.size})
	}
	s.drop(o)
	s.settle()
}

// Floor is the number below which nothing will be sent again, for the next message to tell.
func (s *SendState) Floor() uint64 { return s.base }

// Outstanding is the number of messages neither acknowledged nor given up.
func (s *SendState) Outstanding() int { return s.out }

// KeptBytes is the size of the messages that are kept for resending.
func (s *SendState) KeptBytes() int { return s.kept }

// SRTT is the smoothed round-trip time; 0 while unknown.
func (s *SendState) SRTT() time.Duration { return s.rtt.smoothed }

// MinRTT is the least round-trip time of the last 10 s; 0 while unknown.
func (s *SendState) MinRTT(now time.Time) time.Duration { return s.rtt.min(now.Sub(s.start)) }

// Release lets all kept copies go. The SendState must not be used afterwards.
func (s *SendState) Release() {
	for n := s.base; n < s.next; n++ {
		if o := s.at(n); o.state == outstanding {
			s.drop(o)
		}
	}
}
