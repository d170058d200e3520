package control

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	backoffFirst = 100 * time.Millisecond
	backoffMax   = 2 * time.Second
	// healthy is how long a connection must have lasted for the next loss to begin anew.
	healthy = 30 * time.Second
)

// backoff is a jittered exponential back-off: 100 ms, doubling to 2 s, each 50 % more or less.
type backoff struct {
	rnd  *jitter
	next time.Duration
}

// wait returns how long to wait before the next attempt.
func (b *backoff) wait() time.Duration {
	if b.next == 0 {
		b.next = backoffFirst
	}
	d := b.rnd.around(b.next, 0.5)
	b.next = min(2*b.next, backoffMax)
	return d
}

// lasted says how long a connection lasted.
func (b *backoff) lasted(d time.Duration) {
	if d >= healthy {
		b.next = 0
	}
}

// jitter draws random durations, so that members do not act in step. It is safe for concurrent
// use.
type jitter struct {
	mu  sync.Mutex
	rnd *rand.Rand
}

func newJitter(seed uint64) *jitter {
	if seed == 0 {
		seed = rand.Uint64()
	}
	return &jitter{rnd: rand.New(rand.NewPCG(seed, 1))}
}

// around draws between d*(1-share) and d*(1+share).
func (j *jitter) around(d time.Duration, share float64) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Duration(float64(d) * (1 - share + 2*share*j.rnd.Float64()))
}

// upTo draws between 0 and d.
func (j *jitter) upTo(d time.Duration) time.Duration { return j.around(d/2, 1) }
