package ingress

import "time"

// Hold says how long a message that overtook others is held back for them: as long as 95 % of
// the overtaken ones took to come in the last Window, but at least Min and at most Max. The
// zero value of a field is its default.
type Hold struct {
	Min    time.Duration // 2 ms
	Max    time.Duration // 50 ms
	Window time.Duration // 2 s
}

// Defaults of Hold (protocol section 3, "Order at ingress").
const (
	DefaultMinHold    = 2 * time.Millisecond
	DefaultMaxHold    = 50 * time.Millisecond
	DefaultHoldWindow = 2 * time.Second
)

func (h Hold) withDefaults() Hold {
	if h.Min <= 0 {
		h.Min = DefaultMinHold
	}
	if h.Max <= 0 {
		h.Max = DefaultMaxHold
	}
	if h.Window <= 0 {
		h.Window = DefaultHoldWindow
	}
	h.Max = max(h.Min, h.Max)
	return h
}

const (
	holdSteps  = 50 // the resolution is Max/holdSteps
	holdSlices = 8  // the window moves by Window/holdSlices
)

// histogram counts delays by their length in steps, rounded up; the last entry is for those
// above Max.
type histogram [holdSteps + 2]uint32

// estimator keeps a histogram of reordering delays in a moving window.
type estimator struct {
	Hold
	base   time.Time
	slice  int64 // the newest, counted from base
	counts [holdSlices]histogram
	sum    histogram // of all counts
	total  int
	value  time.Duration // of hold; 0 if it must be found anew
}

// add counts a message that came d after the first one that overtook it.
func (e *estimator) add(now time.Time, d time.Duration) {
	e.move(now)
	step := e.Max / holdSteps
	bucket := holdSteps + 1
	if d <= e.Max {
		bucket = min(int((d+step-1)/step), bucket)
	}
	e.counts[e.slice%holdSlices][bucket]++
	e.sum[bucket]++
	e.total++
	e.value = 0
}

// move lets go of what has left the window.
func (e *estimator) move(now time.Time) {
	if e.base.IsZero() {
		e.base = now
	}
	to := int64(now.Sub(e.base) / (e.Window / holdSlices))
	for n := 0; e.slice < to; n++ {
		if n == holdSlices { // all of it is gone
			e.slice = to
			break
		}
		e.slice++
		gone := &e.counts[e.slice%holdSlices]
		for i, c := range gone {
			e.sum[i] -= c
			e.total -= int(c)
			gone[i] = 0
		}
		e.value = 0
	}
}

// hold is how long to wait now.
func (e *estimator) hold(now time.Time) time.Duration {
	e.move(now)
	if e.value == 0 {
		e.value = min(max(e.p95(), e.Min), e.Max)
	}
	return e.value
}

// p95 is the delay that 95 % do not exceed, rounded up to a step; 0 if there was none.
func (e *estimator) p95() time.Duration {
	if e.total == 0 {
		return 0
	}
	seen, want := 0, (e.total*95+99)/100
	for bucket, n := range e.sum {
		if seen += int(n); seen >= want {
			return time.Duration(bucket) * (e.Max / holdSteps)
		}
	}
	return e.Max
}
