package control

import (
	"math/rand/v2"
	"testing"
)

// slowWindow is the obvious model of window.
type slowWindow struct {
	seen map[uint64]bool
	high uint64
}

func (w *slowWindow) take(n uint64) bool {
	if w.seen == nil {
		w.seen = make(map[uint64]bool)
	}
	if w.seen[n] || len(w.seen) > 0 && n < w.high && w.high-n >= windowSize {
		return false
	}
	w.seen[n] = true
	w.high = max(w.high, n)
	return true
}

func TestWindow(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var w window
		var slow slowWindow
		at := rnd.Uint64N(1 << 20)
		for i := range 5000 {
			switch rnd.IntN(10) {
			case 0:
				at += rnd.Uint64N(3 * windowSize)
			case 1:
				at++
			}
			n := at - min(at, rnd.Uint64N(windowSize+windowSize/8))
			if got, want := w.take(n), slow.take(n); got != want {
				t.Fatalf("seed %d, step %d: take(%d) = %v with high %d, want %v", seed, i, n, got, w.high, want)
			}
		}
	}
}

func TestWindowEnds(t *testing.T) {
	const top = 1<<64 - 1
	var w window
	for _, step := range []struct {
		n    uint64
		want bool
	}{
		{0, true}, {0, false}, {windowSize - 1, true}, {0, false}, {1, true}, {windowSize, true}, {0, false},
		{top, true}, {top, false}, {top - windowSize + 1, true}, {top - windowSize, false}, {windowSize, false},
	} {
		if got := w.take(step.n); got != step.want {
			t.Errorf("take(%d) = %v", step.n, got)
		}
	}
}
