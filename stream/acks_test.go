package stream

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

// The acknowledgements cover what a map says, within 64 ranges: nothing that did not arrive,
// and the newest first.
func TestAckStateAgainstModel(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		a := NewAckState(GenerousGrant, 1<<20, epoch0)
		arrived := map[uint64]bool{}
		var top, floor uint64
		for step := range 4000 {
			n := top + rnd.Uint64N(4)
			if seed%3 == 0 && rnd.IntN(3) == 0 {
				n = top + rnd.Uint64N(300)
			}
			if rnd.IntN(3) == 0 {
				n -= min(n, rnd.Uint64N(500))
			}
			if n < floor || arrived[n] {
				continue
			}
			if rnd.IntN(50) == 0 {
				floor = max(floor, n-min(n, rnd.Uint64N(2000)))
			}
			if n >= Window {
				floor = max(floor, n-Window+1)
			}
			arrived[n] = true
			top = max(top, n+1)
			a.Arrived(wire.KindData, n, floor, 1, epoch0)
			if step%50 == 0 {
				checkAck(t, a, arrived, floor, top)
			}
		}
	}
}

func checkAck(t *testing.T, a *AckState, arrived map[uint64]bool, floor, top uint64) {
	t.Helper()
	var b, again wire.AckBody
	a.Fill(&b, epoch0)
	if err := again.Parse(b.Append(nil)); err != nil || again != b {
		t.Fatalf("acknowledgement is not canonical: %v", err)
	}
	if b.Top() != top {
		t.Fatalf("covers up to %d, want %d", b.Top(), top)
	}
	first := uint64(0)
	for first < floor || arrived[first] {
		first++
	}
	if b.Cumulative != first {
		t.Fatalf("cumulative %d, want %d", b.Cumulative, first)
	}
	oldest := top
	if r := b.Ranges(); len(r) == wire.MaxAckRanges {
		oldest = b.Cumulative + uint64(r[0].Gap)
	} else {
		oldest = first
	}
	for n := first; n < top; n++ {
		if want := arrived[n] && n >= oldest; b.Covers(n) != want {
			t.Fatalf("covers %d: %v, want %v", n, !want, want)
		}
	}
}

func TestAckDue(t *testing.T) {
	const ms = time.Millisecond
	at := func(d time.Duration) time.Time { return epoch0.Add(time.Minute + d) }
	fresh := func() *AckState {
		a := NewAckState(FixedGrant(4000), 4000, epoch0)
		if a.Due(at(0)) || !a.Deadline().IsZero() {
			t.Error("due with nothing to say")
		}
		return a
	}
	var b wire.AckBody

	a := fresh()
	a.Arrived(wire.KindData, 0, 0, 10, at(0))
	a.Arrived(wire.KindData, 1, 0, 10, at(20*ms))
	if a.Due(at(25*ms-1)) || !a.Due(at(25*ms)) || !a.Deadline().Equal(at(25*ms)) {
		t.Errorf("due at %v, want 25 ms after the first arrival", a.Deadline())
	}
	a.Fill(&b, at(26*ms))
	if a.Due(at(time.Hour)) {
		t.Error("due after it was sent")
	}
	if b.Delay != 6000 {
		t.Errorf("delay %d us, want 6,000 since the newest arrival", b.Delay)
	}

	a = fresh()
	for n := range uint64(32) {
		if a.Due(at(0)) {
			t.Fatalf("due after %d messages", n)
		}
		a.Arrived(wire.KindData, n, 0, 10, at(0))
	}
	if !a.Due(at(0)) {
		t.Error("not due after 32 messages")
	}

	a = fresh()
	a.Arrived(wire.KindData, 0, 0, 999, at(0))
	if a.Due(at(0)) {
		t.Error("due before a quarter of the window")
	}
	a.Arrived(wire.KindData, 1, 0, 1, at(0))
	if !a.Due(at(0)) {
		t.Error("not due after a quarter of the window")
	}

	for name, act := range map[string]func(a *AckState){
		"probe":   func(a *AckState) { a.Arrived(wire.KindProbe, 0, 0, 60, at(0)) },
		"close":   func(a *AckState) { a.Arrived(wire.KindClose, 0, 0, 60, at(0)) },
		"missing": func(a *AckState) { a.Missing() },
	} {
		a := fresh()
		act(a)
		if !a.Due(at(0)) || a.Deadline().After(at(0)) {
			t.Errorf("%s: not due at once", name)
		}
	}
	a = fresh()
	a.Arrived(wire.KindData, 5, 0, 1, at(0))
	if a.Due(at(0)) {
		t.Error("an arrival out of order is due at once, before the Sink misses anything")
	}
}

// The grant is what was consumed and the rule's window, and never falls. When the sender comes
// close to the end of what it was told, it is told more as soon as there is more.
func TestAckGrant(t *testing.T) {
	var ahead FixedGrant = 4000
	a := NewAckState(&ahead, 4000, epoch0)
	var b wire.AckBody
	fill := func(want uint64) {
		t.Helper()
		a.Fill(&b, epoch0)
		if b.Grant != want {
			t.Errorf("grant %d, want %d", b.Grant, want)
		}
	}
	fill(4000)
	for n := range uint64(4) {
		a.Arrived(wire.KindData, n, 0, 1000, epoch0)
	}
	a.Arrived(wire.KindProbe, 4, 0, 1000, epoch0) // counts as no data
	fill(4000)
	if a.Room() != 0 {
		t.Errorf("room %d, want 0", a.Room())
	}
	a.Consumed(999, epoch0)
	if a.Due(epoch0) {
		t.Error("due before there is a quarter of the window to tell")
	}
	a.Consumed(1, epoch0)
	if !a.Due(epoch0) {
		t.Error("a blocked sender is not told that its window opens")
	}
	fill(5000)
	a.Consumed(3000, epoch0)
	fill(8000)
	ahead = 100
	a.Consumed(0, epoch0)
	fill(8000)
}

func TestAckCopies(t *testing.T) {
	a := NewAckState(GenerousGrant, 1, epoch0)
	us := func(n int) time.Time { return epoch0.Add(time.Duration(n) * time.Microsecond) }
	a.Arrived(wire.KindData, 7, 0, 1, us(1000))
	a.Copy(7, true, us(1400))
	a.Arrived(wire.KindData, 8, 0, 1, us(2000))
	a.Flagged(8)
	a.Copy(8, true, us(2100))
	a.Copy(8, false, us(2700)) // the message itself, after its copy
	a.Arrived(wire.KindData, 10, 0, 1, us(2000))
	a.Copy(10, false, us(2900)) // sent again
	a.Flagged(11)               // has not arrived
	a.Copy(9, true, us(3000))   // never arrived
	var b wire.AckBody
	a.Fill(&b, us(4000))
	want := []wire.AckCopy{{Number: 7, Offset: 400}, {Number: 8, Offset: -700}}
	if got := b.Copies(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("copies %v, want %v", got, want)
	}
	a.Fill(&b, us(5000))
	if len(b.Copies()) != 0 {
		t.Error("copies are told twice")
	}
	for range 100 {
		a.Copy(7, true, us(1400))
	}
	a.Fill(&b, us(6000))
	if len(b.Copies()) != wire.MaxAckCopies {
		t.Errorf("%d copies", len(b.Copies()))
	}
	a.Copy(0, true, us(1)) // number 0 has not arrived
	a.Fill(&b, us(6000))
	if len(b.Copies()) != 0 {
		t.Error("a copy of nothing is told")
	}
}
