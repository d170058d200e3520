package queue

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRegistryListsByName(t *testing.T) {
	var reg Registry
	b := New[int](&reg, Config{Name: "b", Capacity: 7, Unit: "packets", Policy: Drop}, nil)
	a1 := New[int](&reg, Config{Name: "a", Capacity: 3, Unit: "bytes"}, func(v int) int { return v })
	a2 := New[int](&reg, Config{Name: "a", Capacity: 3, Unit: "bytes"}, func(v int) int { return v })
	b.TryPush(1)
	a1.TryPush(2)
	a1.TryPush(2)
	a2.TryPush(1)

	got := reg.Snapshot()
	want := []Stats{
		{Name: "a", Unit: "bytes", Capacity: 3, Queues: 2, Len: 3, Used: 5, HighWater: 4, In: 3},
		{Name: "b", Unit: "packets", Policy: Drop, Capacity: 7, Queues: 1, Len: 1, Used: 1, HighWater: 1, In: 1},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	a1.Close()
	if s := reg.Snapshot()[0]; s.Queues != 2 {
		t.Errorf("a closed queue is listed until it is empty: %+v", s)
	}
	popAll(a1)
	popAll(a1)
	if s := reg.Snapshot()[0]; s.Queues != 1 || s.In != 3 || s.Out != 2 || s.HighWater != 4 || s.Used != 1 {
		t.Errorf("counts of a queue that is gone must stay: %+v", s)
	}
	a2.TryPop(make([]int, 1))
	a2.Close()
	a2.Close()
	if s := reg.Snapshot()[0]; s.Queues != 0 || s.In != 3 || s.Out != 3 {
		t.Errorf("after all were closed: %+v", s)
	}
}

func TestRegistryShowsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg Registry
		q := newInts(&reg, 1, Wait)
		mustPush(t, q, 1)
		var wg sync.WaitGroup
		wg.Go(func() { mustPush(t, q, 2) })
		synctest.Wait()
		if s := reg.Snapshot()[0]; s.Waiting != 1 || s.Waits != 1 {
			t.Errorf("while a writer waits: %+v", s)
		}
		time.Sleep(3 * time.Second)
		popAll(q)
		wg.Wait()
		if s := reg.Snapshot()[0]; s.Waiting != 0 || s.Waited != 3*time.Second {
			t.Errorf("afterwards: %+v", s)
		}
	})
}

func TestNilRegistry(t *testing.T) {
	var reg *Registry
	q := newInts(reg, 1, Wait)
	mustPush(t, q, 1)
	q.Close()
	popAll(q)
	if reg.Snapshot() != nil {
		t.Error("a nil Registry lists queues")
	}
}

func TestRegistryIsSafeForConcurrentUse(t *testing.T) {
	var reg Registry
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				q := newInts(&reg, 2, Wait)
				q.TryPush(1)
				q.Close()
				popAll(q)
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			reg.Snapshot()
		}
	})
	wg.Wait()
	if s := reg.Snapshot()[0]; s.In != 800 || s.Out != 800 || s.Queues != 0 {
		t.Errorf("%+v", s)
	}
}
