package stats

import (
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSetListsStagesByName(t *testing.T) {
	var s Set
	b := s.Stage("b")
	a := s.Stage("a")
	if s.Stage("a") != a {
		t.Fatal("one name, two stages")
	}
	a.In.Add(5)
	a.Out.Inc()
	expired := a.Drop("one reason")
	if a.Drop("one reason") != expired {
		t.Fatal("one reason, two counters")
	}
	expired.Add(3)
	a.Drop("another reason")
	a.Note("retries").Inc()
	b.Note("one reason").Inc() // notes and drops of one name are apart
	got := s.Snapshot()
	if len(got) != 2 || got[0].Name != "a" || got[1].Name != "b" {
		t.Fatalf("stages: %+v", got)
	}
	if got[0].In != 5 || got[0].Out != 1 || got[0].Dropped() != 3 || got[0].Notes["retries"] != 1 {
		t.Errorf("stage a: %+v", got[0])
	}
	if n, ok := got[0].Drops["another reason"]; !ok || n != 0 {
		t.Error("a registered reason must be listed at 0")
	}
	if got[1].Dropped() != 0 || got[1].Notes["one reason"] != 1 {
		t.Errorf("stage b: %+v", got[1])
	}
	got[0].Drops["one reason"] = 99
	if a.Snapshot().Drops["one reason"] != 3 {
		t.Error("a snapshot shares its maps with the stage")
	}
}

func TestNilSet(t *testing.T) {
	var s *Set
	st := s.Stage("x")
	st.Drop("one reason").Inc()
	if st.Snapshot().Dropped() != 1 || st.Snapshot().Name != "x" {
		t.Errorf("%+v", st.Snapshot())
	}
	if s.Snapshot() != nil {
		t.Error("a nil Set lists stages")
	}
}

func TestConcurrentUse(t *testing.T) {
	var s Set
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				st := s.Stage([]string{"a", "b"}[i%2])
				st.In.Inc()
				st.Drop("one reason").Inc()
				if i%100 == 0 {
					s.Snapshot()
				}
			}
		})
	}
	wg.Wait()
	for _, st := range s.Snapshot() {
		if st.In != 4000 || st.Dropped() != 4000 {
			t.Errorf("%+v", st)
		}
	}
	names := slices.Collect(func(yield func(string) bool) {
		for _, st := range s.Snapshot() {
			if !yield(st.Name) {
				return
			}
		}
	})
	if !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("names %v", names)
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	var s Set
	c := s.Stage("a").Drop("one reason")
	if n := testing.AllocsPerRun(100, func() { c.Inc(); c.Add(2); c.Load() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkInc(b *testing.B) {
	var c Counter
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Inc()
		}
	})
}
