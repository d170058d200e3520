package queue

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newInts(reg *Registry, capacity int, p Policy) *Queue[int] {
	return New[int](reg, Config{Name: "test", Capacity: capacity, Unit: "items", Policy: p}, nil)
}

func mustPush(t *testing.T, q *Queue[int], vs ...int) {
	t.Helper()
	for _, v := range vs {
		if err := q.Push(t.Context(), v); err != nil {
			t.Fatalf("Push(%d): %v", v, err)
		}
	}
}

func popAll(q *Queue[int]) []int {
	dst := make([]int, 100)
	return dst[:q.TryPop(dst)]
}

func TestPushWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newInts(nil, 2, Wait)
		mustPush(t, q, 1, 2)
		done := make(chan error, 1)
		go func() { done <- q.Push(t.Context(), 3) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Push on a full queue returned %v", err)
		default:
		}
		if s := q.Stats(); s.Waiting != 1 || s.Waits != 1 || s.Len != 2 {
			t.Errorf("stats while waiting: %+v", s)
		}
		time.Sleep(time.Second)
		var one [1]int
		if n := q.TryPop(one[:]); n != 1 || one[0] != 1 {
			t.Fatalf("TryPop = %d, %v", n, one)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s := q.Stats(); s.Waiting != 0 || s.Waited != time.Second {
			t.Errorf("stats after the wait: %+v", s)
		}
		if got := popAll(q); !slices.Equal(got, []int{2, 3}) {
			t.Errorf("popped %v", got)
		}
	})
}

func TestWaitersEndWithContextAndClose(t *testing.T) {
	cause := errors.New("enough")
	wait := map[string]func(ctx context.Context, q *Queue[int]) error{
		"Push":     func(ctx context.Context, q *Queue[int]) error { return q.Push(ctx, 9) },
		"WaitRoom": func(ctx context.Context, q *Queue[int]) error { return q.WaitRoom(ctx) },
	}
	for name, f := range wait {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newInts(nil, 1, Wait)
				mustPush(t, q, 1)
				ctx, cancel := context.WithCancelCause(t.Context())
				done := make(chan error, 4)
				go func() { done <- f(ctx, q) }()
				synctest.Wait()
				cancel(cause)
				if err := <-done; !errors.Is(err, cause) {
					t.Errorf("after cancel: %v", err)
				}
				for range 3 {
					go func() { done <- f(t.Context(), q) }()
				}
				synctest.Wait()
				if s := q.Stats(); s.Waiting != 3 {
					t.Errorf("%d are waiting, want 3", s.Waiting)
				}
				q.Close()
				for range 3 {
					if err := <-done; !errors.Is(err, net.ErrClosed) {
						t.Errorf("after Close: %v", err)
					}
				}
				if err := f(t.Context(), q); !errors.Is(err, net.ErrClosed) {
					t.Errorf("on a closed queue: %v", err)
				}
				if s := q.Stats(); s.Waiting != 0 || s.Waits != 4 {
					t.Errorf("stats: %+v", s)
				}
				if got := popAll(q); !slices.Equal(got, []int{1}) {
					t.Errorf("a waiter's item got in: %v", got)
				}
			})
		})
	}
}

// One token must wake any number of waiters in turn, whatever kind they are.
func TestOneTokenWakesAllWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newInts(nil, 10, Admit)
		for range 20 {
			q.Force(0)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := q.WaitRoom(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := q.WaitRoom(ctx); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		var dst [11]int
		q.TryPop(dst[:10])
		synctest.Wait()
		if s := q.Stats(); s.Waiting != 8 {
			t.Fatalf("%d are waiting while the queue is exactly full, want 8", s.Waiting)
		}
		q.TryPop(dst[:1])
		wg.Wait()
	})
}

// Room for several lets in several writers, and items for several wake several readers,
// although each event leaves one token.
func TestOneEventWakesSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newInts(nil, 3, Wait)
		mustPush(t, q, 1, 2, 3)
		var writers, readers sync.WaitGroup
		for i := range 3 {
			writers.Go(func() { mustPush(t, q, 10+i) })
		}
		synctest.Wait()
		var dst [3]int
		if n := q.TryPop(dst[:]); n != 3 {
			t.Fatalf("TryPop = %d", n)
		}
		writers.Wait()
		q.TryPop(dst[:])
		<-q.Ready() // left from the pushes
		for range 3 {
			readers.Go(func() {
				var one [1]int
				if _, err := q.Pop(t.Context(), one[:]); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n, err := q.Offer([]int{1, 2, 3}); n != 3 || err != nil {
			t.Fatalf("Offer = %d, %v", n, err)
		}
		readers.Wait()
	})
}

func TestPopWaitsForItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newInts(nil, 4, Wait)
		type result struct {
			vs  []int
			err error
		}
		got := make(chan result)
		pop := func(ctx context.Context) {
			dst := make([]int, 2)
			n, err := q.Pop(ctx, dst)
			got <- result{dst[:n], err}
		}
		go pop(t.Context())
		synctest.Wait()
		select {
		case r := <-got:
			t.Fatalf("Pop on an empty queue returned %v", r)
		default:
		}
		mustPush(t, q, 1)
		if r := <-got; r.err != nil || !slices.Equal(r.vs, []int{1}) {
			t.Errorf("Pop = %v", r)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		go pop(ctx)
		synctest.Wait()
		cancel(cause)
		if r := <-got; !errors.Is(r.err, cause) {
			t.Errorf("Pop after cancel = %v", r)
		}
		mustPush(t, q, 2, 3, 4)
		q.Close()
		for _, want := range [][]int{{2, 3}, {4}} {
			go pop(t.Context())
			if r := <-got; r.err != nil || !slices.Equal(r.vs, want) {
				t.Errorf("Pop of what a closed queue holds = %v, want %v", r, want)
			}
		}
		go pop(t.Context())
		if r := <-got; !errors.Is(r.err, net.ErrClosed) {
			t.Errorf("Pop of a closed and empty queue = %v", r)
		}
	})
}

func TestPolicies(t *testing.T) {
	drop := newInts(nil, 1, Drop)
	mustPush(t, drop, 1)
	if err := drop.Push(t.Context(), 2); !errors.Is(err, ErrFull) {
		t.Errorf("Push under Drop: %v", err)
	}
	if s := drop.Stats(); s.Dropped != 1 || s.In != 1 {
		t.Errorf("stats under Drop: %+v", s)
	}
	admit := newInts(nil, 1, Admit)
	mustPush(t, admit, 1, 2, 3)
	if admit.HasRoom() || admit.TryPush(4) || !admit.Force(4) {
		t.Error("under Admit a full queue must refuse TryPush and take Force")
	}
	if s := admit.Stats(); s.HighWater != 4 || s.Dropped != 0 {
		t.Errorf("stats under Admit: %+v", s)
	}
	if Wait.String() != "wait" || Drop.String() != "drop" || Admit.String() != "admit" || Policy(9).String() != "policy 9" {
		t.Error("names of policies")
	}
}

func TestOffer(t *testing.T) {
	tests := []struct {
		policy  Policy
		want    int
		err     error
		dropped uint64
	}{
		{Wait, 3, ErrFull, 0},
		{Drop, 3, ErrFull, 2},
		{Admit, 5, nil, 0},
	}
	for _, tt := range tests {
		q := newInts(nil, 3, tt.policy)
		n, err := q.Offer([]int{1, 2, 3, 4, 5})
		if n != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%v: Offer = %d, %v", tt.policy, n, err)
		}
		if s := q.Stats(); s.Dropped != tt.dropped || s.In != uint64(tt.want) {
			t.Errorf("%v: %+v", tt.policy, s)
		}
		if got := popAll(q); !slices.Equal(got, []int{1, 2, 3, 4, 5}[:tt.want]) {
			t.Errorf("%v: popped %v", tt.policy, got)
		}
		q.Close()
		if n, err := q.Offer([]int{1}); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v: Offer after Close = %d, %v", tt.policy, n, err)
		}
	}
}

// One item always fits an empty queue, and a queue of capacity 1 holds one at a time.
func TestWeights(t *testing.T) {
	q := New(nil, Config{Name: "bytes", Capacity: 1, Unit: "bytes"}, func(b []byte) int { return len(b) })
	if !q.TryPush(make([]byte, 1400)) || q.TryPush(nil) {
		t.Fatal("capacity 1 holds exactly one item")
	}
	if q.Used() != 1400 || q.Len() != 1 {
		t.Errorf("Used %d, Len %d", q.Used(), q.Len())
	}
	var dst [1][]byte
	if q.TryPop(dst[:]) != 1 || q.Used() != 0 {
		t.Errorf("Used %d after the pop", q.Used())
	}
	if !q.TryPush(nil) || q.Used() != 1 {
		t.Errorf("an empty item weighs %d, want 1", q.Used())
	}
	if New[int](nil, Config{}, nil).Stats().Capacity != 1 {
		t.Error("the least capacity is 1")
	}
}

func TestTryPopFuncStopsAtRefusedItem(t *testing.T) {
	q := newInts(nil, 10, Wait)
	mustPush(t, q, 1, 2, 30, 4)
	<-q.Ready()
	var dst [10]int
	n := q.TryPopFunc(dst[:], func(v int) bool { return v < 10 })
	if n != 2 {
		t.Fatalf("took %d items", n)
	}
	select {
	case <-q.Ready():
	default:
		t.Error("no token for the items left")
	}
	if got := popAll(q); !slices.Equal(got, []int{30, 4}) {
		t.Errorf("left %v", got)
	}
}

func TestCloseEmpty(t *testing.T) {
	var reg Registry
	q := newInts(&reg, 4, Wait)
	mustPush(t, q, 1)
	if q.CloseEmpty() {
		t.Fatal("closed with an item in it")
	}
	if !q.TryPush(2) {
		t.Fatal("CloseEmpty that reports false has closed the queue")
	}
	popAll(q)
	if !q.CloseEmpty() || !q.CloseEmpty() {
		t.Fatal("an empty queue must close")
	}
	if q.Force(3) || q.TryPush(3) {
		t.Error("a closed queue took an item")
	}
	select {
	case <-q.Done():
	default:
		t.Error("Done is open")
	}
	q.Close()
	if s := reg.Snapshot(); len(s) != 1 || s[0].Queues != 0 || s[0].In != 2 {
		t.Errorf("registry: %+v", s)
	}
}

// CloseEmpty against concurrent writers: what was accepted is never left behind.
func TestCloseEmptyLosesNothing(t *testing.T) {
	for range 2000 {
		q := newInts(nil, 4, Admit)
		accepted := make(chan int, 1)
		go func() {
			n := 0
			for q.Force(n) {
				n++
			}
			accepted <- n
		}()
		taken := 0
		var dst [4]int
		for {
			taken += q.TryPop(dst[:])
			if q.CloseEmpty() {
				break
			}
		}
		if n := <-accepted; n != taken {
			t.Fatalf("accepted %d items, took %d", n, taken)
		}
	}
}

// Writers and readers of every kind at once: each accepted item comes out once, in the
// order of its writer, and nobody sleeps through a wake-up.
func TestConcurrent(t *testing.T) {
	const writers, perWriter = 4, 3000
	for _, capacity := range []int{1, 3, 1000} {
		q := New(nil, Config{Name: "stress", Capacity: capacity}, func([2]int) int { return 1 })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		var wg, readers sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := 0; i < perWriter; {
					switch (i + w) % 3 {
					case 0:
						if q.WaitRoom(ctx) != nil {
							return
						}
						if q.TryPush([2]int{w, i}) {
							i++
						}
					case 1:
						n, _ := q.Offer([][2]int{{w, i}})
						i += n
						if n == 0 && q.WaitRoom(ctx) != nil {
							return
						}
					default:
						if q.Push(ctx, [2]int{w, i}) != nil {
							return
						}
						i++
					}
				}
			})
		}
		var mu sync.Mutex
		seen := make(map[[2]int]int)
		for range 2 {
			readers.Go(func() {
				var dst [5][2]int
				last := [writers]int{-1, -1, -1, -1}
				for {
					n, err := q.Pop(ctx, dst[:])
					if err != nil {
						return
					}
					mu.Lock()
					for _, v := range dst[:n] {
						seen[v]++
						if v[1] <= last[v[0]] {
							t.Errorf("writer %d: %d after %d", v[0], v[1], last[v[0]])
						}
						last[v[0]] = v[1]
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		q.Close()
		readers.Wait()
		cancel()
		if len(seen) != writers*perWriter {
			t.Errorf("capacity %d: %d of %d items came out", capacity, len(seen), writers*perWriter)
		}
		for v, n := range seen {
			if n != 1 {
				t.Errorf("%v came out %d times", v, n)
			}
		}
	}
}

func TestRingIsGivenBackAfterABurst(t *testing.T) {
	q := newInts(nil, 1, Admit)
	for i := range 5000 {
		q.Force(i)
	}
	dst := make([]int, 5000)
	if n := q.TryPop(dst); n != 5000 {
		t.Fatal(n)
	}
	if len(q.items) != 0 {
		t.Errorf("an empty queue keeps a ring of %d", len(q.items))
	}
	mustPush(t, q, 1)
	if got := popAll(q); !slices.Equal(got, []int{1}) {
		t.Error(got)
	}
}

func TestNoAllocations(t *testing.T) {
	q := newInts(nil, 1000, Wait)
	batch, dst := make([]int, 64), make([]int, 64)
	ctx := t.Context()
	run := func() {
		q.Offer(batch)
		if err := q.Push(ctx, 1); err != nil {
			t.Fatal(err)
		}
		sum := 0
		for q.TryPopFunc(dst, func(v int) bool { sum += v; return true }) > 0 {
		}
	}
	run()
	if n := testing.AllocsPerRun(500, run); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
}

func BenchmarkOfferPop(b *testing.B) {
	q := newInts(nil, 1<<20, Wait)
	batch, dst := make([]int, 25), make([]int, 25)
	b.ReportAllocs()
	for b.Loop() {
		q.Offer(batch)
		q.TryPop(dst)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/25, "ns/item")
}

func BenchmarkHandOver(b *testing.B) {
	q := newInts(nil, 256, Wait)
	var wg sync.WaitGroup
	wg.Go(func() {
		dst := make([]int, 25)
		for {
			if _, err := q.Pop(context.Background(), dst); err != nil {
				return
			}
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Push(context.Background(), 1); err != nil {
			b.Fatal(err)
		}
	}
	q.Close()
	wg.Wait()
}
