package control

import "github.com/veil-net/anchor/internal/stats"

// counters are what stage "control" counts. In are the messages that came from the fabric, Out those
// handed to it.
type counters struct {
	*stats.Stage

	malformed      *stats.Counter
	oversized      *stats.Counter
	generation     *stats.Counter
	forged         *stats.Counter
	misdirected    *stats.Counter
	replayed       *stats.Counter
	wrongSession   *stats.Counter
	unknownSession *stats.Counter
	unknownSender  *stats.Counter
	unknownEpoch   *stats.Counter
	notMember      *stats.Counter
	busy           *stats.Counter
	slow           *stats.Counter

	reconnects *stats.Counter
	challenges *stats.Counter
	corrected  *stats.Counter
	entries    *stats.Counter
}

func newCounters(set *stats.Set) *counters {
	s := set.Stage("control")
	return &counters{
		Stage:          s,
		malformed:      s.Drop("malformed"),          // not as protocol section 7 lays out
		oversized:      s.Drop("oversized"),          // longer than any message may be
		generation:     s.Drop("unknown generation"), // of the realm secret
		forged:         s.Drop("forged"),             // a seal or a signature that is not the sender's
		misdirected:    s.Drop("misdirected"),        // to another anchor
		replayed:       s.Drop("replayed"),           // counter seen before, or too old to tell
		wrongSession:   s.Drop("wrong session"),      // to another session of this anchor; it is corrected
		unknownSession: s.Drop("unknown session"),    // of a session that is not admitted
		unknownSender:  s.Drop("unknown sender"),     // of an anchor whose record was not to be had
		unknownEpoch:   s.Drop("unknown epoch"),      // to an epoch key that has gone; it is corrected
		notMember:      s.Drop("not a member"),       // revoked, out of date, or not allowed
		busy:           s.Drop("sender too fast"),    // no room in the sender's queue or in all together
		slow:           s.Drop("slow consumer"),      // lost by the fabric because receive did not keep up

		reconnects: s.Note("reconnects"),
		challenges: s.Note("challenges"),
		corrected:  s.Note("corrections"),
		entries:    s.Note("bad entries"), // of the directory, not to be believed
	}
}
