package route

import (
	"time"

	"github.com/veil-net/anchor/identity"
)

// Policy is the preference: it chooses among next hops that are all safe (no cycle) and live
// (no timer calls them dead). It is a pure machine: it has no clock of its own and does no I/O,
// so the simulator and a running node use the same code. A Router calls it from several
// goroutines at once; implementations are safe for that, take no lock across destinations,
// and neither allocate nor wait.
type Policy interface {
	// Choose picks one of q.Candidates.
	Choose(q *Query) Choice
	// Observe takes what became of messages.
	Observe(o Observation)
}

// Query asks a Policy for a next hop.
type Query struct {
	Now  time.Time
	To   *Destination
	Flow uint64
	Size int
	// Candidates are the feasible, live hops, at least one. The Policy must not keep the slice.
	Candidates []Candidate
}

// Candidate is a next hop that safety and liveness allow.
type Candidate struct {
	Hop identity.ID
	// Direct says that the hop is the destination itself.
	Direct bool
	// Metric is the distance from the hop to the destination that the hop itself advertises; 0
	// if Direct.
	Metric time.Duration
	// RTT and MinRTT are measured on the tether; 0 while unknown.
	RTT, MinRTT time.Duration
	// Outstanding is how many bytes wait or are under way on the tether.
	Outstanding int
}

// Choice is a Policy's answer.
type Choice struct {
	// Hop is an index into Query.Candidates.
	Hop int
	// Probe is the index of a candidate that gets a marked copy, to measure it; negative for
	// none.
	Probe  int
	Reason Reason
}

// Reason says why a hop was chosen.
type Reason uint8

// The reasons for a choice.
const (
	// ReasonOnly: there is no other candidate.
	ReasonOnly Reason = iota
	// ReasonPinned: the flow keeps its hop.
	ReasonPinned
	// ReasonBest: the estimate is the best.
	ReasonBest
	// ReasonDead: the hop in use before died.
	ReasonDead
)

// String returns the reason in a word or two.
func (r Reason) String() string {
	switch r {
	case ReasonOnly:
		return "only hop"
	case ReasonPinned:
		return "flow pinned"
	case ReasonBest:
		return "best estimate"
	case ReasonDead:
		return "hop before died"
	}
	return "unknown"
}

// Outcome is what became of a message.
type Outcome uint8

// The outcomes.
const (
	// Delivered: the destination acknowledged the message.
	Delivered Outcome = iota
	// Lost: the message is taken for lost.
	Lost
	// Died: the tether to the hop died; Delay and Size mean nothing.
	Died
)

// Observation is one piece of feedback about a hop.
type Observation struct {
	Now     time.Time
	To      identity.ID // zero if it concerns the hop as such
	Hop     identity.ID
	Outcome Outcome
	Delay   time.Duration // from sending to acknowledgement, for Delivered
	Size    int           // bytes
}

// DirectOnly is the Policy that takes the destination itself when it is a neighbour, and the
// first candidate otherwise. It learns nothing; the zero value is ready for use.
type DirectOnly struct{}

// Choose implements Policy.
func (DirectOnly) Choose(q *Query) Choice {
	for i := range q.Candidates {
		if q.Candidates[i].Direct {
			return Choice{Hop: i, Probe: -1, Reason: ReasonOnly}
		}
	}
	return Choice{Probe: -1, Reason: ReasonOnly}
}

// Observe implements Policy.
func (DirectOnly) Observe(Observation) {}
