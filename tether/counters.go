package tether

import "github.com/veil-net/anchor/internal/stats"

// counters are those of stage "tether". In and Out of the stage count messages, frames apart.
type counters struct {
	*stats.Stage

	// Of what came over links.
	malformed   *stats.Counter // a frame that cannot be read, or a message of less than 2 bytes
	unknown     *stats.Counter // a frame of a kind that nobody here knows
	oversized   *stats.Counter // a message above wire.MaxMessage
	badHello    *stats.Counter // not from the session that the signalling was with
	secondHello *stats.Counter
	early       *stats.Counter // a message that came too far ahead of its hello
	// Of what was to leave over a link that died first.
	unsent *stats.Counter

	// Of signalling.
	signalMalformed *stats.Counter
	signalRefused   *stats.Counter // of a stranger, for another session, or one too many
	signalFull      *stats.Counter // the peer's queue is full

	// No loss.
	signalStale *stats.Counter // repeated, or overtaken by a newer one
	attempts    *stats.Counter
	failures    *stats.Counter // of attempts
	deaths      *stats.Counter // of tethers, for silence
}

func newCounters(s *stats.Set) *counters {
	st := s.Stage("tether")
	return &counters{
		Stage:           st,
		malformed:       st.Drop("malformed frame"),
		unknown:         st.Drop("unknown frame"),
		oversized:       st.Drop("oversized"),
		badHello:        st.Drop("hello refused"),
		secondHello:     st.Drop("unexpected hello"),
		early:           st.Drop("before hello"),
		unsent:          st.Drop("tether down"),
		signalMalformed: st.Drop("signal malformed"),
		signalRefused:   st.Drop("signal refused"),
		signalFull:      st.Drop("signal queue full"),
		signalStale:     st.Note("signal stale"),
		attempts:        st.Note("attempts"),
		failures:        st.Note("failed attempts"),
		deaths:          st.Note("deaths by silence"),
	}
}
