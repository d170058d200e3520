package stream

import (
	"testing"
	"time"

	"github.com/veil-net/anchor/identity"
)

func floodID(n int) identity.ID { return identity.ID{byte(n), byte(n >> 8), 1} }

func TestFloodgateSharesByNeighbour(t *testing.T) {
	f := newFloodgate()
	now := time.Unix(1000, 0)
	admitted := map[int]int{}
	// Neighbour 0 offers 10,000 opens a second, neighbours 1 to 4 offer 50 each, for 10 s.
	for ms := range 10_000 {
		now = now.Add(time.Millisecond)
		for range 10 {
			if f.admitOpen(now, floodID(0)) {
				admitted[0]++
			}
		}
		if ms%20 == 0 {
			for n := 1; n <= 4; n++ {
				if f.admitOpen(now, floodID(n)) {
					admitted[n]++
				}
			}
		}
	}
	for n := 1; n <= 4; n++ {
		if admitted[n] != 500 {
			t.Errorf("neighbour %d: %d of 500 modest opens admitted", n, admitted[n])
		}
	}
	if got := admitted[0]; got < 900 || got > 1600 { // a fifth of 5,000, and the first burst
		t.Errorf("flooding neighbour: %d opens admitted, want about 1,000", got)
	}
}

func TestFloodgateBoundsInitiators(t *testing.T) {
	f := newFloodgate()
	now := time.Unix(1000, 0)
	n := 0
	for range 100 {
		if f.admitInitiator(now, floodID(1)) {
			n++
		}
	}
	if n != initiatorRate {
		t.Errorf("%d streams at once, want %d", n, initiatorRate)
	}
	now = now.Add(time.Second)
	for range 100 {
		if f.admitInitiator(now, floodID(1)) {
			n++
		}
	}
	if n != initiatorPending {
		t.Errorf("%d unconfirmed, want %d", n, initiatorPending)
	}
	f.release(floodID(1))
	if now = now.Add(time.Second); !f.admitInitiator(now, floodID(1)) {
		t.Error("a released place cannot be used")
	}
	for i := 2; f.pending < pendingMax; i++ {
		if !f.admitInitiator(now, floodID(i)) {
			t.Fatalf("initiator %d refused at %d pending", i, f.pending)
		}
	}
	if f.admitInitiator(now, floodID(60000)) {
		t.Error("more than the node's bound is pending")
	}
}

func TestFloodgateMemoryIsBounded(t *testing.T) {
	f := newFloodgate()
	now := time.Unix(1000, 0)
	for i := range 3 * limiterMax {
		f.admitOpen(now, floodID(i))
	}
	if len(f.neighbors) > limiterMax {
		t.Errorf("%d buckets", len(f.neighbors))
	}
	f.tick(now.Add(limiterLife))
	if len(f.neighbors) != 0 {
		t.Errorf("%d buckets left after idle time", len(f.neighbors))
	}
}
