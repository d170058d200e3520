package stream

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// replayModel is the rule by maps.
type replayModel struct {
	floor uint64
	seen  map[uint64]bool
}

func (r *replayModel) check(n uint64) error {
	switch {
	case r.seen[n] && n+Window >= r.floor:
		return ErrDuplicate
	case n < r.floor:
		return ErrReplayed
	}
	return nil
}

func (r *replayModel) mark(n, floor uint64) error {
	r.floor = max(r.floor, floor)
	if n >= Window {
		r.floor = max(r.floor, n-Window+1)
	}
	if err := r.check(n); err != nil {
		return err
	}
	r.seen[n] = true
	return nil
}

func TestReplayAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		got, want := new(replay), &replayModel{seen: map[uint64]bool{}}
		top := uint64(0)
		steps := []uint64{3, 100, Window / 2, 3 * Window}[seed%4]
		for range 20000 {
			n := top
			switch rnd.IntN(4) {
			case 0: // a late one
				n -= min(n, rnd.Uint64N(3*Window))
			case 1: // a jump
				n += rnd.Uint64N(steps)
			default:
				n++
			}
			if a, b := got.check(n), want.check(n); a != b {
				t.Fatalf("seed %d: check(%d) = %v, want %v", seed, n, a, b)
			}
			floor := n - min(n, rnd.Uint64N(Window))
			if a, b := got.mark(n, floor), want.mark(n, floor); a != b {
				t.Fatalf("seed %d: mark(%d, %d) = %v, want %v", seed, n, floor, a, b)
			}
			if got.floor != want.floor {
				t.Fatalf("seed %d: floor %d, want %d", seed, got.floor, want.floor)
			}
			top = max(top, n)
		}
	}
}

// A copy of what arrived is a duplicate even below the floor; what was given up is a replay.
func TestReplayTellsDuplicatesFromReplays(t *testing.T) {
	var r replay
	for _, n := range []uint64{0, 1, 3, 9} {
		if err := r.mark(n, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.mark(10, 10); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[uint64]error{0: ErrDuplicate, 2: ErrReplayed, 3: ErrDuplicate, 8: ErrReplayed, 9: ErrDuplicate, 10: ErrDuplicate, 11: nil} {
		if err := r.check(n); !errors.Is(err, want) {
			t.Errorf("check(%d) = %v, want %v", n, err, want)
		}
	}
	if err := r.mark(10+2*Window, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.check(9); !errors.Is(err, ErrReplayed) {
		t.Errorf("check(9), long past: %v", err)
	}
}
