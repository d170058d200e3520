package ingress

import "github.com/veil-net/anchor/internal/stats"

// counters are what the stage "ingress" counts, in packets unless noted.
type counters struct {
	in, out *stats.Counter

	malformed *stats.Counter // not one whole IP packet
	source    *stats.Counter // the source address is not the peer's
	dest      *stats.Counter // the destination address is not ours
	refused   *stats.Counter // the device refused them; of a batch, all
	closed    *stats.Counter // messages that a Sink held when it was closed
	ahead     *stats.Counter // messages whose number is too far ahead to be put in order

	late       *stats.Counter // messages delivered after their turn
	skipped    *stats.Counter // numbers that were not waited for
	duplicates *stats.Counter // messages that came twice
}

func newCounters(s *stats.Stage) counters {
	return counters{
		in: &s.In, out: &s.Out,
		malformed:  s.Drop("malformed"),
		source:     s.Drop("foreign source"),
		dest:       s.Drop("foreign destination"),
		refused:    s.Drop("write error"),
		closed:     s.Drop("closed"),
		ahead:      s.Drop("too far ahead"),
		late:       s.Note("late"),
		skipped:    s.Note("skipped"),
		duplicates: s.Note("duplicates"),
	}
}
