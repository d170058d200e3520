package ingress

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// fixed is a hold that does not move, for tests that compute with it.
func fixed(d time.Duration) Hold { return Hold{Min: d, Max: d} }

// takeAll calls Next until it has nothing.
func takeAll(r *Resequencer[int], now time.Time) (out []int) {
	for {
		v, ok := r.Next(now)
		if !ok {
			return out
		}
		out = append(out, v)
	}
}

func TestInOrderPassesThrough(t *testing.T) {
	r := NewResequencer[int](Hold{})
	now := time.Now()
	for i := range 1000 {
		if o, missing := r.Add(now, uint64(i), 0, i); o != Ordered || missing {
			t.Fatalf("Add(%d) = %v, %v", i, o, missing)
		}
		if got := takeAll(r, now); !slices.Equal(got, []int{i}) {
			t.Fatalf("Next = %v, want %d", got, i)
		}
		if _, ok := r.Deadline(now); ok {
			t.Fatal("a deadline with nothing held")
		}
	}
}

func TestGapIsFilled(t *testing.T) {
	r := NewResequencer[int](fixed(10 * time.Millisecond))
	now := time.Now()
	r.Add(now, 0, 0, 0)
	takeAll(r, now)
	for i, want := range map[uint64]bool{2: true} {
		if _, missing := r.Add(now, i, 0, int(i)); missing != want {
			t.Errorf("Add(%d): missing %v", i, missing)
		}
	}
	if _, missing := r.Add(now, 3, 0, 3); missing {
		t.Error("the same gap is reported twice")
	}
	if _, missing := r.Add(now, 5, 0, 5); !missing {
		t.Error("a second gap is not reported")
	}
	if got := takeAll(r, now.Add(9*time.Millisecond)); got != nil {
		t.Errorf("released %v across a gap", got)
	}
	if at, ok := r.Deadline(now); !ok || at != now.Add(10*time.Millisecond) {
		t.Errorf("deadline %v, %v", at.Sub(now), ok)
	}
	r.Add(now.Add(time.Millisecond), 1, 0, 1)
	if got := takeAll(r, now.Add(time.Millisecond)); !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("released %v", got)
	}
}

func TestSkipAndLate(t *testing.T) {
	r := NewResequencer[int](fixed(10 * time.Millisecond))
	now := time.Now()
	r.Add(now, 3, 0, 3)
	r.Add(now.Add(time.Millisecond), 6, 0, 6)
	r.Add(now.Add(2*time.Millisecond), 5, 0, 5)
	at := now.Add(10 * time.Millisecond)
	if got := takeAll(r, at); !slices.Equal(got, []int{3}) {
		t.Errorf("at the deadline of 3: %v", got)
	}
	if r.Skipped() != 3 || r.Position() != 4 {
		t.Errorf("skipped %d, position %d", r.Skipped(), r.Position())
	}
	// 6 is due before 5, which came later; 5 goes first all the same, and 4 is skipped.
	if got := takeAll(r, at.Add(time.Millisecond)); !slices.Equal(got, []int{5, 6}) {
		t.Errorf("at the deadline of 6: %v", got)
	}
	for _, n := range []uint64{0, 4, 2} {
		if o, missing := r.Add(at.Add(time.Second), n, 0, int(n)); o != Late || missing {
			t.Errorf("Add(%d) after the skip = %v", n, o)
		}
		if o, _ := r.Add(at.Add(time.Second), n, 0, int(n)); o != Duplicate {
			t.Errorf("Add(%d) again = %v", n, o)
		}
	}
	for _, n := range []uint64{3, 5, 6} {
		if o, _ := r.Add(at.Add(time.Second), n, 0, int(n)); o != Duplicate {
			t.Errorf("Add(%d) of what was delivered = %v", n, o)
		}
	}
}

func TestFloorPassesOver(t *testing.T) {
	r := NewResequencer[int](fixed(10 * time.Millisecond))
	now := time.Now()
	r.Add(now, 2, 0, 2)
	if _, missing := r.Add(now, 8, 8, 8); missing {
		t.Error("a gap below the floor is reported")
	}
	if got := takeAll(r, now); !slices.Equal(got, []int{2, 8}) {
		t.Errorf("released %v", got)
	}
	if o, _ := r.Add(now, 5, 8, 5); o != Duplicate {
		t.Errorf("Add below the floor = %v", o)
	}
	if r.Skipped() != 0 {
		t.Error("what the floor passes over is not skipped")
	}
	if o, missing := r.Add(now, 1_000_000, 1_000_000, 9); o != Beyond || missing {
		t.Errorf("far ahead in one step: %v", o) // the floor is taken over, the message only once it is near
	}
	if got := takeAll(r, now); got != nil || r.Position() != 1_000_000 {
		t.Errorf("released %v, position %d", got, r.Position())
	}
	if o, _ := r.Add(now, 1_000_000, 0, 9); o != Ordered {
		t.Errorf("Add at the floor = %v", o)
	}
	if o, _ := r.Add(now, 999_999, 0, 9); o != Duplicate {
		t.Errorf("Add below the floor = %v", o)
	}
}

func TestPassedNumbersLeaveNoGap(t *testing.T) {
	r := NewResequencer[int](fixed(10 * time.Millisecond))
	now := time.Now()
	r.Add(now, 0, 0, 0)
	if r.Pass(now, 1, 0) {
		t.Error("a number in turn leaves a gap")
	}
	if _, missing := r.Add(now, 2, 0, 2); missing {
		t.Error("a passed number is missing")
	}
	if got := takeAll(r, now); !slices.Equal(got, []int{0, 2}) {
		t.Errorf("released %v", got)
	}
	if !r.Pass(now, 4, 0) {
		t.Error("a passed number may leave a gap itself")
	}
	if _, ok := r.Deadline(now); ok {
		t.Error("a passed number is not worth a deadline")
	}
	if o, _ := r.Add(now, 4, 0, 4); o != Duplicate {
		t.Errorf("Add of a passed number = %v", o)
	}
	r.Add(now, 3, 0, 3)
	if got := takeAll(r, now); !slices.Equal(got, []int{3}) || r.Position() != 5 {
		t.Errorf("released %v, position %d", got, r.Position())
	}
}

func TestFarAhead(t *testing.T) {
	r := NewResequencer[int](fixed(time.Second))
	now := time.Now()
	if o, _ := r.Add(now, maxAhead, 0, 1); o != Beyond {
		t.Errorf("Add(maxAhead) = %v", o)
	}
	if o, _ := r.Add(now, maxAhead-1, 0, 1); o != Ordered {
		t.Errorf("Add(maxAhead-1) = %v", o)
	}
	if got := takeAll(r, now.Add(time.Second)); len(got) != 1 {
		t.Errorf("released %v", got)
	}
	if len(r.ring) != 0 {
		t.Errorf("an empty resequencer keeps a ring of %d", len(r.ring))
	}
	if o, _ := r.Add(now, maxAhead-1-window, 0, 1); o != Duplicate {
		t.Errorf("older than the window: %v", o)
	}
	if o, _ := r.Add(now, maxAhead-window, 0, 1); o != Late {
		t.Errorf("just in the window: %v", o)
	}
}

func TestDrain(t *testing.T) {
	r := NewResequencer[int](Hold{})
	now := time.Now()
	for _, n := range []uint64{7, 3, 4} {
		r.Add(now, n, 0, int(n))
	}
	r.Pass(now, 5, 0)
	var got []int
	for v, ok := r.Drain(); ok; v, ok = r.Drain() {
		got = append(got, v)
	}
	if !slices.Equal(got, []int{3, 4, 7}) {
		t.Errorf("drained %v", got)
	}
}

// seqModel is a Resequencer as plainly as it can be written: sets of numbers, and searches.
type seqModel struct {
	hold  time.Duration
	next  uint64
	floor uint64
	held  map[uint64]time.Time
	void  map[uint64]bool
	// missed are the numbers skipped and not come since.
	missed map[uint64]bool
	top    uint64 // one above the highest number that has come or lies below a floor
}

func (m *seqModel) add(now time.Time, n, floor uint64, isVoid bool) (Outcome, bool) {
	m.floor = max(m.floor, floor)
	if n < m.next {
		late := m.missed[n] && m.next-n <= window
		delete(m.missed, n)
		if late {
			return Late, false
		}
		return Duplicate, false
	}
	if n >= m.next+maxAhead {
		return Beyond, false
	}
	if _, ok := m.held[n]; ok || m.void[n] {
		return Duplicate, false
	}
	missing := n > max(m.top, m.floor)
	m.top = max(m.top, n+1)
	if isVoid {
		m.void[n] = true
	} else {
		m.held[n] = now
	}
	return Ordered, missing
}

func (m *seqModel) take(now time.Time) (uint64, bool) {
	for {
		if _, ok := m.held[m.next]; ok {
			delete(m.held, m.next)
			m.next++
			return m.next - 1, true
		}
		overdue := false
		for n, at := range m.held {
			overdue = overdue || (n > m.next && !now.Before(at.Add(m.hold)))
		}
		switch {
		case m.void[m.next]:
		case m.next < m.floor:
		case overdue:
			m.missed[m.next] = true
		default:
			return 0, false
		}
		m.next++
		m.top = max(m.top, m.next)
	}
}

func TestAgainstModel(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 5))
		hold := time.Duration(1+r.IntN(20)) * time.Millisecond
		m := &seqModel{hold: hold, held: map[uint64]time.Time{}, void: map[uint64]bool{}, missed: map[uint64]bool{}}
		s := NewResequencer[uint64](fixed(hold))
		run := &seqRun{t: t, seed: seed, hold: hold, model: m, real: s, taken: map[uint64]bool{}, came: map[uint64]time.Time{}}
		now := time.Now()
		sent := uint64(0)
		for range 400 {
			now = now.Add(time.Duration(r.IntN(4000)) * time.Microsecond)
			n := sent
			switch r.IntN(10) {
			case 0, 1, 2: // an earlier number, come or not
				n -= min(n, uint64(r.IntN(30)))
			case 3: // some are left out
				n += uint64(r.IntN(5))
			}
			floor := uint64(0)
			if r.IntN(15) == 0 {
				floor = n - min(n, uint64(r.IntN(10)))
			}
			run.add(now, n, floor, r.IntN(12) == 0)
			sent = max(sent, n+1)
			if r.IntN(3) > 0 {
				run.takeAll(now)
			}
		}
		run.takeAll(now.Add(hold))
		if len(m.held) != 0 {
			t.Fatalf("seed %d: %d are held after the hold", seed, len(m.held))
		}
	}
}

type seqRun struct {
	t     *testing.T
	seed  uint64
	hold  time.Duration
	model *seqModel
	real  *Resequencer[uint64]
	taken map[uint64]bool
	came  map[uint64]time.Time
	last  uint64 // one above the last number that Next gave
}

func (s *seqRun) add(now time.Time, n, floor uint64, isVoid bool) {
	s.t.Helper()
	var o Outcome
	var missing bool
	if isVoid {
		missing = s.real.Pass(now, n, floor)
	} else {
		o, missing = s.real.Add(now, n, floor, n)
	}
	wantO, wantMissing := s.model.add(now, n, floor, isVoid)
	if (o != wantO && !isVoid) || missing != wantMissing {
		s.t.Fatalf("seed %d: Add(%d, floor %d, void %v) = %v, %v, want %v, %v", s.seed, n, floor, isVoid, o, missing, wantO, wantMissing)
	}
	switch {
	case isVoid:
	case o == Late:
		s.once(n)
	case o == Ordered:
		s.came[n] = now
	}
}

func (s *seqRun) once(n uint64) {
	s.t.Helper()
	if s.taken[n] {
		s.t.Fatalf("seed %d: %d is delivered twice", s.seed, n)
	}
	s.taken[n] = true
}

// takeAll compares what both release now, and checks the promises without the model: in
// order, once each, and nothing stays that has been held for the hold.
func (s *seqRun) takeAll(now time.Time) {
	s.t.Helper()
	for {
		got, ok := s.real.Next(now)
		want, wantOK := s.model.take(now)
		if got != want || ok != wantOK {
			s.t.Fatalf("seed %d: Next = %d, %v, want %d, %v", s.seed, got, ok, want, wantOK)
		}
		if !ok {
			break
		}
		if got < s.last {
			s.t.Fatalf("seed %d: %d after %d", s.seed, got, s.last-1)
		}
		s.last = got + 1
		s.once(got)
		delete(s.came, got)
	}
	if s.real.Position() != s.model.next {
		s.t.Fatalf("seed %d: position %d, want %d", s.seed, s.real.Position(), s.model.next)
	}
	earliest := now.Add(time.Hour)
	for n, at := range s.came {
		if now.Sub(at) >= s.hold {
			s.t.Fatalf("seed %d: %d is still held after %v", s.seed, n, now.Sub(at))
		}
		if at.Before(earliest) {
			earliest = at
		}
	}
	at, ok := s.real.Deadline(now)
	if ok != (len(s.came) > 0) || (ok && at != earliest.Add(s.hold)) {
		s.t.Fatalf("seed %d: deadline in %v (%v), %d held", s.seed, at.Sub(now), ok, len(s.came))
	}
}

// The hold follows the delays that the machine measures itself.
func TestHoldAdapts(t *testing.T) {
	r := NewResequencer[int](Hold{})
	now := time.Now()
	n := uint64(0)
	late := 0
	for i := range 300 { // of each three messages, the first comes 12 ms after the others
		for _, k := range []uint64{1, 2} {
			r.Add(now, n+k, 0, 0)
			takeAll(r, now)
		}
		if at, ok := r.Deadline(now); ok && now.Add(12*time.Millisecond).After(at) {
			takeAll(r, at)
		}
		now = now.Add(12 * time.Millisecond)
		if o, _ := r.Add(now, n, 0, 0); o == Late {
			late++
			if i > 100 {
				t.Fatalf("round %d: late, although the hold is %v", i, r.est.hold(now))
			}
		}
		takeAll(r, now)
		n += 3
	}
	if got := r.est.hold(now); got < 12*time.Millisecond || got > 14*time.Millisecond {
		t.Errorf("the hold is %v, the delay 12 ms", got)
	}
	if late == 0 {
		t.Error("nothing was late at first: the test shows nothing")
	}
}

// A stream that is never quite in order must not make the machine grow.
func TestBoundedMemory(t *testing.T) {
	r := NewResequencer[int](fixed(time.Second))
	now := time.Now()
	for i := range uint64(40_000) {
		now = now.Add(100 * time.Microsecond)
		r.Add(now, i^1, 0, 0) // 1 0 3 2 5 4 ...
		if i%2 == 0 {
			r.Add(now, i^1+2, 0, 0)
		}
		takeAll(r, now)
	}
	if len(r.ring) > 64 || cap(r.arrivals) > 64 || cap(r.gaps) > 2*maxGaps+2 {
		t.Errorf("ring %d, arrivals %d, gaps %d", len(r.ring), cap(r.arrivals), cap(r.gaps))
	}
}

func TestResequencerAllocatesNothing(t *testing.T) {
	r := NewResequencer[int](Hold{})
	now := time.Now()
	n := uint64(0)
	run := func() {
		for _, k := range []uint64{0, 2, 1, 3} {
			now = now.Add(time.Millisecond)
			r.Add(now, n+k, n, 0)
			for _, ok := r.Next(now); ok; _, ok = r.Next(now) {
			}
		}
		n += 4
	}
	for range 5000 {
		run()
	}
	if got := testing.AllocsPerRun(1000, run); got != 0 {
		t.Errorf("%v allocations for 4 messages", got)
	}
}

func BenchmarkResequencer(b *testing.B) {
	for _, swap := range []uint64{0, 1} {
		b.Run(fmt.Sprintf("swapped=%d", swap), func(b *testing.B) {
			r := NewResequencer[int](Hold{})
			now := time.Now()
			n := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(100 * time.Microsecond)
				r.Add(now, n^swap, 0, 0)
				for _, ok := r.Next(now); ok; _, ok = r.Next(now) {
				}
				n++
			}
		})
	}
}
