package stream

import (
	"errors"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/stats"
)

// counters are what the stage "stream" counts.
type counters struct {
	stage *stats.Stage

	unknown, window, refused, flood, full, stale *stats.Counter
	malformed, replayed, seal, signature, open   *stats.Counter
	hop                                          *stats.Counter
	expired                                      *stats.Counter
	duplicates, repeats, restarts, rotations     *stats.Counter
	resent                                       *stats.Counter
}

func newCounters(s *stats.Stage) counters {
	return counters{
		stage:     s,
		unknown:   s.Drop("unknown stream"),
		window:    s.Drop("over the window"),
		refused:   s.Drop("peer not admitted"),
		flood:     s.Drop("open above the rate"),
		full:      s.Drop("open queue full"),
		stale:     s.Drop("open of an ended session"),
		malformed: s.Drop("malformed"),
		replayed:  s.Drop("replayed"),
		seal:      s.Drop("seal broken"),
		signature: s.Drop("signature not valid"),
		open:      s.Drop("handshake not valid"),
		expired:   s.Drop("expired"),

		duplicates: s.Note("duplicates"),
		repeats:    s.Note("opens repeated"),
		restarts:   s.Note("restarts"),
		rotations:  s.Note("rotations"),
		resent:     s.Note("resent"),
		hop:        s.Note("not sent by the hop"),
	}
}

// handshake counts an open that was refused.
func (c *counters) handshake(err error) {
	switch {
	case errors.Is(err, identity.ErrRevoked), errors.Is(err, identity.ErrExpired), errors.Is(err, identity.ErrNotYetValid):
		c.refused.Inc()
	default:
		c.open.Inc()
	}
}

// failure counts a message that could not be opened.
func (c *counters) failure(err error) {
	switch {
	case errors.Is(err, ErrDuplicate):
		c.duplicates.Inc()
	case errors.Is(err, ErrReplayed):
		c.replayed.Inc()
	case errors.Is(err, ErrSeal):
		c.seal.Inc()
	case errors.Is(err, ErrSignature):
		c.signature.Inc()
	default:
		c.malformed.Inc()
	}
}
