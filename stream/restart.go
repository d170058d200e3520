package stream

import "time"

const (
	// minRestart is the least time without a valid acknowledgement after which a stream is
	// given up; 3 PTO if that is longer.
	minRestart = time.Second
	// maxRestart bounds the doubling of that time.
	maxRestart = 8 * time.Second
)

// Restart decides when the sender of a stream opens a new one beside it, because the other
// end seems to know the stream no longer: no valid acknowledgement came for max(1 s, 3 PTO)
// while data was outstanding. Each restart that brings no acknowledgement doubles the time,
// to 8 s. It outlives the streams toward one anchor, is not safe for concurrent use, and the
// zero value is ready for use.
type Restart struct {
	since    time.Time // when waiting began; zero while nothing is outstanding
	failures uint
}

// Waiting says that data is outstanding at now. The first call after Acked or Idle starts
// the time.
func (r *Restart) Waiting(now time.Time) {
	if r.since.IsZero() {
		r.since = now
	}
}

// Idle says that nothing is outstanding any more, though no acknowledgement came.
func (r *Restart) Idle() { r.since = time.Time{} }

// Acked says that a valid acknowledgement came at now, and whether data is still outstanding.
func (r *Restart) Acked(now time.Time, outstanding bool) {
	r.failures = 0
	r.since = time.Time{}
	if outstanding {
		r.since = now
	}
}

// Deadline is when a restart is due, as far as is known now; zero while nothing is
// outstanding. pto is the stream's base PTO, without its doubling.
func (r *Restart) Deadline(pto time.Duration) time.Time {
	if r.since.IsZero() {
		return time.Time{}
	}
	base := max(minRestart, 3*pto)
	return r.since.Add(max(base, min(base<<min(r.failures, 8), maxRestart)))
}

// Due reports whether a restart is due at now.
func (r *Restart) Due(now time.Time, pto time.Duration) bool {
	d := r.Deadline(pto)
	return !d.IsZero() && !now.Before(d)
}

// Restarted says that a new stream was opened at now because a restart was due.
func (r *Restart) Restarted(now time.Time) {
	r.failures++
	r.since = now
}
