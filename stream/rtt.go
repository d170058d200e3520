package stream

import "time"

const (
	// minPTO is the least probe time-out, and the first one without a round-trip sample.
	minPTO = 300 * time.Millisecond
	// maxPTO bounds the doubling of the probe time-out.
	maxPTO = 2 * time.Second
	// minRTTSeconds is how far back the least round-trip time reaches.
	minRTTSeconds = 10
)

// rtt estimates the round-trip time of a stream (RFC 9002, section 5).
type rtt struct {
	smoothed, variation time.Duration
	least               [minRTTSeconds]time.Duration // by second
	second              int64                        // of the newest entry in least
}

// sample takes a measurement made at, counted from the stream's start. delay is how long the
// other end held the message before it acknowledged it.
func (r *rtt) sample(took, delay, at time.Duration) {
	took = max(took, time.Microsecond)
	r.note(took, at)
	if least := r.min(at); took >= least+delay {
		took -= delay
	}
	if r.smoothed == 0 {
		r.smoothed, r.variation = took, took/2
		return
	}
	r.variation += ((r.smoothed - took).Abs() - r.variation) / 4
	r.smoothed += (took - r.smoothed) / 8
}

// note enters a sample into the least of the last seconds.
func (r *rtt) note(took, at time.Duration) {
	r.forget(at)
	slot := &r.least[r.second%minRTTSeconds]
	if *slot == 0 || took < *slot {
		*slot = took
	}
}

// forget clears the seconds that passed without a sample.
func (r *rtt) forget(at time.Duration) {
	now := int64(at / time.Second)
	if now-r.second >= minRTTSeconds {
		clear(r.least[:])
		r.second = now
	}
	for ; r.second < now; r.second++ {
		r.least[(r.second+1)%minRTTSeconds] = 0
	}
}

// min is the least sample of the last 10 s; 0 if there is none.
func (r *rtt) min(at time.Duration) time.Duration {
	r.forget(at)
	var least time.Duration
	for _, d := range r.least {
		if d != 0 && (least == 0 || d < least) {
			least = d
		}
	}
	return least
}

// pto is the probe time-out without its doubling.
func (r *rtt) pto() time.Duration {
	return max(minPTO, r.smoothed+4*r.variation+AckDelay)
}
