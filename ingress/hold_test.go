package ingress

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHoldBounds(t *testing.T) {
	now := time.Now()
	e := estimator{Hold: Hold{}.withDefaults()}
	if got := e.hold(now); got != DefaultMinHold {
		t.Errorf("without any delay the hold is %v", got)
	}
	for range 100 {
		e.add(now, 300*time.Microsecond)
	}
	if got := e.hold(now); got != DefaultMinHold {
		t.Errorf("with delays of 0.3 ms the hold is %v", got)
	}
	for range 2000 {
		e.add(now, 17*time.Millisecond)
	}
	if got := e.hold(now); got != 17*time.Millisecond {
		t.Errorf("with delays of 17 ms the hold is %v", got)
	}
	for range 40000 {
		e.add(now, time.Minute)
	}
	if got := e.hold(now); got != DefaultMaxHold {
		t.Errorf("with delays of a minute the hold is %v", got)
	}
	if got := (Hold{Min: time.Second}).withDefaults(); got.Max != time.Second {
		t.Errorf("Max below Min: %+v", got)
	}
}

// The hold against a sorted list of the delays of the last 2 s.
func TestHoldAgainstModel(t *testing.T) {
	type sample struct {
		at time.Time
		d  time.Duration
	}
	const step = DefaultMaxHold / holdSteps
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 4))
		e := estimator{Hold: Hold{}.withDefaults()}
		now := time.Now()
		var all []sample
		for range 400 {
			now = now.Add(time.Duration(r.ExpFloat64() * float64(20*time.Millisecond)))
			if r.IntN(100) == 0 {
				now = now.Add(3 * time.Second)
			}
			d := time.Duration(r.ExpFloat64() * float64(8*time.Millisecond))
			e.add(now, d)
			all = append(all, sample{now, d})

			// The window moves by an eighth: what left it for sure is out, what is in it for sure counts.
			lo, hi := time.Duration(1<<62), time.Duration(0)
			for _, width := range []time.Duration{2 * time.Second, 2 * time.Second * 7 / 8} {
				for _, edge := range []time.Duration{0, time.Millisecond} {
					var in []time.Duration
					for _, s := range all {
						if now.Sub(s.at) <= width-edge {
							in = append(in, s.d)
						}
					}
					slices.Sort(in)
					for _, i := range []int{(len(in)*95+99)/100 - 1, len(in) * 94 / 100, len(in) - 1} {
						lo, hi = min(lo, in[max(i, 0)]), max(hi, in[max(i, 0)])
					}
				}
			}
			got := e.hold(now)
			if got < min(max(lo, DefaultMinHold), DefaultMaxHold)-step || got > max(min(hi+step, DefaultMaxHold), DefaultMinHold) {
				t.Fatalf("seed %d: hold %v, want %v to %v", seed, got, lo, hi)
			}
		}
	}
}

func TestHoldForgets(t *testing.T) {
	now := time.Now()
	e := estimator{Hold: Hold{}.withDefaults()}
	for range 100 {
		e.add(now, 30*time.Millisecond)
	}
	now = now.Add(1700 * time.Millisecond)
	if got := e.hold(now); got != 30*time.Millisecond {
		t.Errorf("after 1.7 s the hold is %v", got)
	}
	now = now.Add(350 * time.Millisecond)
	if got := e.hold(now); got != DefaultMinHold {
		t.Errorf("after 2.05 s the hold is %v", got)
	}
	e.add(now.Add(time.Hour), 9*time.Millisecond)
	if e.total != 1 {
		t.Errorf("after an hour %d delays are counted", e.total)
	}
}
