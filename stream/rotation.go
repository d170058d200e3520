package stream

import "time"

// The bounds within which DefaultPolicy renews a stream; the hard limits are HardAge and
// HardMessages, and no policy moves them.
const (
	// SoftAge is the age at which a stream is renewed at the next idle gap, +-10 %.
	SoftAge = 120 * time.Second
	// ForcedAge is the age at which a stream is renewed in any case.
	ForcedAge = 170 * time.Second
	// SoftMessages is the number of messages after which a stream is renewed at the next idle
	// gap.
	SoftMessages = 1 << 22
	// ForcedMessages is the number of messages after which a stream is renewed in any case.
	ForcedMessages = HardMessages - HardMessages/16
	// IdleClose is how long a stream without traffic is kept.
	IdleClose = 30 * time.Second

	// minGap is the least silence that counts as an idle gap.
	minGap = 50 * time.Millisecond
)

// Action is what a Policy wants done about the sending end toward one anchor.
type Action uint8

// The actions.
const (
	// Keep changes nothing: the stream, if there is one, is used further.
	Keep Action = iota
	// Create opens a stream where there is none.
	Create
	// Rotate opens a successor beside the stream and moves to it once it is accepted.
	Rotate
	// Close ends the stream; the next batch opens another.
	Close
)

// String returns the action's name in lower case.
func (a Action) String() string {
	switch a {
	case Create:
		return "create"
	case Rotate:
		return "rotate"
	case Close:
		return "close"
	}
	return "keep"
}

// Observation is what a Policy knows about the sending end toward one anchor at one moment.
type Observation struct {
	// Open says that a stream is established; what follows is zero without one, Waiting and
	// ETA excepted.
	Open bool
	// Rotating says that a successor is being opened.
	Rotating bool
	Age      time.Duration // since the stream was accepted
	Messages uint64        // numbers taken
	Bytes    uint64        // of messages sent, envelopes included
	Idle     time.Duration // since the last data message was sealed
	SRTT     time.Duration // smoothed round-trip time; 0 while unknown
	// Outstanding is the number of messages neither acknowledged nor given up.
	Outstanding int
	// Waiting is the number of batches that wait to be sealed.
	Waiting int
	// ETA is how long they will take at the present rate; 0 while unknown.
	ETA time.Duration
	// Draw is a number in [0, 1) that was drawn for the stream and stays the same for its life,
	// so that streams opened together are not renewed together.
	Draw float64
}

// Policy decides when streams are created, reused, rotated and closed, between the hard
// limits, which do not ask it. It is asked when a batch comes, and on a timer while a stream
// is open. Implementations must not wait and must be safe for concurrent use.
type Policy interface {
	Decide(Observation) Action
}

// DefaultPolicy renews a stream in an idle gap of max(RTT, 50 ms) once it is 120 s +-10 % old
// or 2^22 messages long, and in any case at 170 s or 15/16 of the hard number; it closes one
// that was idle for 30 s. The zero value is ready for use.
type DefaultPolicy struct{}

var _ Policy = DefaultPolicy{}

// Decide implements Policy.
func (DefaultPolicy) Decide(o Observation) Action {
	switch {
	case !o.Open:
		if o.Waiting > 0 {
			return Create
		}
	case o.Rotating:
	case o.Idle >= IdleClose && o.Waiting == 0 && o.Outstanding == 0:
		return Close
	case o.Age >= ForcedAge || o.Messages >= ForcedMessages:
		return Rotate
	case o.softDue() && o.Waiting == 0 && o.Idle >= max(o.SRTT, minGap):
		return Rotate
	}
	return Keep
}

// softDue reports whether a soft limit is reached.
func (o *Observation) softDue() bool {
	soft := time.Duration(float64(SoftAge) * (0.9 + 0.2*o.Draw))
	return o.Age >= soft || o.Messages >= SoftMessages
}
