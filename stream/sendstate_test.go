package stream

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

var hopA, hopB = identity.ID{1}, identity.ID{2}

// ackOf is an acknowledgement of these numbers, which ascend, with all below cumulative.
func ackOf(cumulative uint64, numbers ...uint64) *wire.AckBody {
	a := &wire.AckBody{Cumulative: cumulative}
	last := cumulative
	for _, n := range numbers {
		a.AddRange(uint32(n-last), 1)
		last = n + 1
	}
	return a
}

func after(d time.Duration) time.Time { return epoch0.Add(d) }

func sendMany(s *SendState, from, to uint64, hop identity.ID, at time.Duration) {
	for n := from; n < to; n++ {
		s.Sent(Sent{Number: n, Kind: wire.KindData, Size: 100, Hop: hop, At: after(at)})
	}
}

func mustAck(t *testing.T, s *SendState, a *wire.AckBody, at time.Duration) []uint64 {
	t.Helper()
	acked, err := s.Ack(a, after(at), nil)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []uint64
	for _, m := range acked {
		numbers = append(numbers, m.Number)
	}
	return numbers
}

// Sender and receiver state agree with maps under loss, reordering and lost acknowledgements.
func TestSendStateAgainstModel(t *testing.T) {
	for seed := range uint64(10) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		s, r := NewSendState(1<<40, 0, epoch0), NewAckState(GenerousGrant, 1<<40, epoch0)
		var window replay
		outstanding := map[uint64]bool{}
		type flight struct{ number, floor uint64 }
		var flying []flight
		next := uint64(0)
		for step := range 5000 {
			switch rnd.IntN(8) {
			case 0, 1, 2, 3: // send
				if next-s.Floor() < Window {
					s.Sent(Sent{Number: next, Kind: wire.KindData, Size: 10, Hop: hopA, At: epoch0})
					outstanding[next] = true
					if rnd.IntN(10) != 0 {
						flying = append(flying, flight{next, s.Floor()})
					}
					next++
				}
			case 4, 5: // one arrives, perhaps not the first
				if len(flying) > 0 {
					i := rnd.IntN(min(len(flying), 20))
					f := flying[i]
					flying = slices.Delete(flying, i, i+1)
					if window.mark(f.number, f.floor) == nil {
						r.Arrived(wire.KindData, f.number, f.floor, 10, epoch0)
					}
				}
			case 6: // acknowledge, perhaps in vain
				var b wire.AckBody
				r.Fill(&b, epoch0)
				if rnd.IntN(3) == 0 {
					continue
				}
				acked, err := s.Ack(&b, epoch0, nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range acked {
					if !outstanding[a.Number] || !b.Covers(a.Number) {
						t.Fatalf("message %d newly acknowledged", a.Number)
					}
					delete(outstanding, a.Number)
				}
				for n := range outstanding {
					if step%16 == 0 && b.Covers(n) {
						t.Fatalf("message %d is acknowledged and outstanding", n)
					}
				}
			case 7: // give up the oldest now and then
				if old := s.Oldest(1, nil); len(old) == 1 && rnd.IntN(4) == 0 {
					s.GiveUp(old[0])
					delete(outstanding, old[0])
				}
			}
			if step%16 != 0 {
				continue
			}
			floor := next
			for n := range outstanding {
				floor = min(floor, n)
			}
			if s.Floor() != floor || s.Outstanding() != len(outstanding) {
				t.Fatalf("floor %d, %d outstanding, want %d, %d", s.Floor(), s.Outstanding(), floor, len(outstanding))
			}
		}
	}
}

func TestSendStateWindow(t *testing.T) {
	s := NewSendState(1000, 0, epoch0)
	if !s.Reserve(600) || s.Reserve(401) || !s.Reserve(400) || s.Window() != 0 {
		t.Fatalf("window %d", s.Window())
	}
	s.Sent(Sent{Number: 0, Kind: wire.KindData, Size: 500, Reserved: 600, Hop: hopA, At: epoch0})
	s.Unreserve(400)
	if s.Window() != 500 {
		t.Errorf("window %d after 500 of 1,000", s.Window())
	}
	s.Sent(Sent{Number: 1, Kind: wire.KindProbe, Size: 60, Hop: hopA, At: epoch0})
	if s.Window() != 500 {
		t.Error("a probe counts against the grant")
	}
	grant := ackOf(0)
	grant.Grant = 5000
	mustAck(t, s, grant, 0)
	grant.Grant = 1200 // an older acknowledgement, late
	mustAck(t, s, grant, 0)
	if s.Window() != 4500 {
		t.Errorf("window %d, want 4,500: a grant never falls", s.Window())
	}
}

// A message's bytes leave the window's account when it is given up, and come back if an
// acknowledgement shows that it had arrived.
func TestSendStateGivenUp(t *testing.T) {
	s := NewSendState(1000, 0, epoch0)
	sendMany(s, 0, 4, hopA, 0)
	s.GiveUp(1)
	s.GiveUp(2)
	s.GiveUp(2)
	s.GiveUp(99)
	if s.Window() != 800 || s.Outstanding() != 2 || s.Floor() != 0 {
		t.Fatalf("window %d, %d outstanding, floor %d", s.Window(), s.Outstanding(), s.Floor())
	}
	if got := mustAck(t, s, ackOf(2), 0); !slices.Equal(got, []uint64{0}) {
		t.Errorf("newly acknowledged %v", got)
	}
	if s.Window() != 700 {
		t.Errorf("window %d, want 700: message 1 had arrived", s.Window())
	}
	sendMany(s, 4, 5, hopA, 0) // tells the floor 3
	mustAck(t, s, ackOf(5), 0)
	if s.Window() != 700-100 || s.Floor() != 5 {
		t.Errorf("window %d, floor %d: message 2 was passed over", s.Window(), s.Floor())
	}
}

// Numbers run out only for data: probes and a close find some left.
func TestSendStateReservesNumbers(t *testing.T) {
	s := NewSendState(1<<40, 0, epoch0)
	n := uint64(0)
	for s.Reserve(100) {
		s.Sent(Sent{Number: n, Kind: wire.KindData, Size: 100, Reserved: 100, Hop: hopA, At: epoch0})
		n++
	}
	if n != Window-spareNumbers {
		t.Errorf("%d messages", n)
	}
	mustAck(t, s, ackOf(10), 0)
	for range 10 { // reserved, not yet sent, count as well
		if !s.Reserve(1) {
			t.Fatal("no room after acknowledgements")
		}
	}
	if s.Reserve(1) {
		t.Error("more reserved than numbers are left")
	}
}

func TestSendStateRefuses(t *testing.T) {
	s := NewSendState(1000, 0, epoch0)
	sendMany(s, 0, 3, hopA, 0)
	_, err := s.Ack(ackOf(4), epoch0, nil)
	wantError(t, "cumulative beyond", err, ErrMalformed)
	bad := ackOf(0, 1, 3)
	bad.Grant = 1 << 40
	_, err = s.Ack(bad, epoch0, nil)
	wantError(t, "range beyond", err, ErrMalformed)
	if s.Outstanding() != 3 || s.Window() != 700 {
		t.Error("a malformed acknowledgement changes something")
	}
	s.Sent(Sent{Number: Window + 5, Kind: wire.KindData, Size: 100, Hop: hopA, At: epoch0, Kept: bufOf([]byte{1})})
	if s.Outstanding() != 3 {
		t.Error("takes a number outside the window")
	}
}

// Messages sealed in parallel are recorded in any order; the floor waits for the lowest.
func TestSendStateOutOfOrder(t *testing.T) {
	s := NewSendState(1<<30, 0, epoch0)
	for _, n := range []uint64{3, 1, 200, 2} {
		s.Sent(Sent{Number: n, Kind: wire.KindData, Size: 1, Hop: hopA, At: epoch0})
	}
	if got := mustAck(t, s, ackOf(0, 1, 3), 0); !slices.Equal(got, []uint64{1, 3}) || s.Floor() != 0 {
		t.Errorf("newly acknowledged %v, floor %d", got, s.Floor())
	}
	s.Sent(Sent{Number: 0, Kind: wire.KindData, Size: 1, Hop: hopA, At: epoch0})
	if got := mustAck(t, s, ackOf(4), 0); !slices.Equal(got, []uint64{0, 2}) || s.Floor() != 4 {
		t.Errorf("newly acknowledged %v, floor %d", got, s.Floor())
	}
}

func TestSendStateReports(t *testing.T) {
	s := NewSendState(1<<30, 0, epoch0)
	sendMany(s, 0, 1, hopA, 0)
	sendMany(s, 1, 2, hopB, 10*time.Millisecond)
	s.Resent(0, hopB, after(20*time.Millisecond))
	acked, err := s.Ack(ackOf(2), after(30*time.Millisecond), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Acked{
		{Number: 0, Size: 100, Hop: hopB, Took: 10 * time.Millisecond, Resent: true},
		{Number: 1, Size: 100, Hop: hopB, Took: 20 * time.Millisecond},
	}
	if !slices.Equal(acked, want) {
		t.Errorf("got %+v, want %+v", acked, want)
	}
}

// Kept copies go when they are acknowledged, given up, or with the state.
func TestSendStateKeeps(t *testing.T) {
	s := NewSendState(1<<30, 0, epoch0)
	kept := bufOf(pattern(40, 1))
	kept.Retain() // to look at it afterwards
	s.Sent(Sent{Number: 0, Kind: wire.KindData, Size: 40, Hop: hopA, At: epoch0, Kept: kept})
	s.Sent(Sent{Number: 1, Kind: wire.KindData, Size: 41, Hop: hopA, At: epoch0, Kept: bufOf(pattern(41, 1))})
	s.Sent(Sent{Number: 2, Kind: wire.KindData, Size: 42, Hop: hopA, At: epoch0, Kept: bufOf(pattern(42, 1))})
	s.Sent(Sent{Number: 3, Kind: wire.KindData, Size: 43, Hop: hopA, At: epoch0})
	if s.KeptBytes() != 40+41+42 {
		t.Errorf("keeps %d bytes", s.KeptBytes())
	}
	m, hop := s.Kept(0)
	if m != kept || hop != hopA {
		t.Error("Kept returns something else")
	}
	m.Release()
	for _, n := range []uint64{3, 4, 1 << 40} {
		if m, _ := s.Kept(n); m != nil {
			t.Errorf("message %d is kept", n)
		}
	}
	mustAck(t, s, ackOf(1), 0)
	if m, _ := s.Kept(0); m != nil || s.KeptBytes() != 41+42 {
		t.Error("kept after it was acknowledged")
	}
	s.GiveUp(1)
	if s.KeptBytes() != 42 {
		t.Error("kept after it was given up")
	}
	s.Release()
	if s.KeptBytes() != 0 || s.Outstanding() != 0 {
		t.Error("kept after Release")
	}
	kept.Release() // panics if the state had not released its own reference, or twice
}
