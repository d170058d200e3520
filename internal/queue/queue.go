// Package queue is the bounded queue between two stages. Every queue of a node states its
// capacity, its policy when full, and counts what passes; a Registry lists them all.
//
// A queue has room while what it holds weighs less than its capacity, so that one item
// always fits an empty queue, and a queue of capacity 1 holds one item at a time whatever
// its weight.
package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Policy says what Push does when the queue is full.
type Policy uint8

const (
	// Wait makes Push wait for room. It is the default.
	Wait Policy = iota
	// Drop makes Push refuse the new item; the queue counts it as dropped.
	Drop
	// Admit makes Push take the item beyond the capacity: for producers that must never
	// wait and that something else bounds. Full then means that WaitRoom waits.
	Admit
)

// String returns the policy's name as docs and Status print it.
func (p Policy) String() string {
	switch p {
	case Wait:
		return "wait"
	case Drop:
		return "drop"
	case Admit:
		return "admit"
	}
	return fmt.Sprintf("policy %d", uint8(p))
}

// ErrFull is what Push returns for an item refused under the policy Drop, and Offer for what
// it did not take. The caller still owns the items.
var ErrFull = errors.New("queue: full")

// Config describes a queue. Name and Capacity are required.
type Config struct {
	// Name says between which stages the queue stands, such as "egress.destination".
	// Queues of one name (one per destination, say) are listed together.
	Name string
	// Capacity is the weight at which the queue is full; at least 1.
	Capacity int
	// Unit is what the weight counts: "packets", "messages" or "bytes".
	Unit string
	// Policy is what Push does when the queue is full.
	Policy Policy
}

// Queue is a bounded FIFO for any number of writers and readers. All methods are safe for
// concurrent use.
type Queue[T any] struct {
	cfg   Config
	reg   *Registry
	weigh func(T) int

	mu     sync.Mutex
	items  []T // ring
	head   int
	n      int
	used   int
	closed bool
	tally  tally

	// ready and room hold one token each: whoever takes a token and leaves work for
	// another waiter puts it back, so one slot wakes any number in turn.
	ready chan struct{}
	room  chan struct{}
	done  chan struct{} // closed by Close
}

// New returns an empty queue and registers it with reg until it is closed and empty; reg
// may be nil. weigh gives an item's weight, at least 1; nil weighs every item 1. weigh runs
// under the queue's lock at times, and must give the same weight when the item leaves as when it came.
func New[T any](reg *Registry, cfg Config, weigh func(T) int) *Queue[T] {
	if weigh == nil {
		weigh = func(T) int { return 1 }
	}
	cfg.Capacity = max(cfg.Capacity, 1)
	q := &Queue[T]{
		cfg: cfg, reg: reg, weigh: weigh,
		ready: make(chan struct{}, 1),
		room:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
	reg.add(cfg, q)
	return q
}

// Push appends an item. When the queue is full it does what the policy says. It returns
// net.ErrClosed after Close, the context's cause when ctx ends while it waits, and ErrFull
// under the policy Drop; with an error the caller still owns the item. Waiting writers are
// woken one after another, but not in the order in which they came.
func (q *Queue[T]) Push(ctx context.Context, v T) error {
	w := max(q.weigh(v), 1)
	q.mu.Lock()
	if !q.closed && (q.used < q.cfg.Capacity || q.cfg.Policy == Admit) {
		q.put(v, w)
		return nil
	}
	if q.closed {
		q.mu.Unlock()
		return net.ErrClosed
	}
	if q.cfg.Policy == Drop {
		q.tally.dropped++
		q.mu.Unlock()
		return ErrFull
	}
	return q.pushSlow(ctx, v, w)
}

// pushSlow waits for room. Called with mu held, returns without.
func (q *Queue[T]) pushSlow(ctx context.Context, v T, w int) error {
	since := time.Now()
	q.tally.waits++
	q.tally.waiting++
	for {
		q.mu.Unlock()
		var err error
		select {
		case <-q.room:
		case <-q.done:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		q.mu.Lock()
		switch {
		case q.closed:
			err = net.ErrClosed
		case err == nil && q.used >= q.cfg.Capacity:
			continue
		}
		q.tally.waiting--
		q.tally.waited += time.Since(since)
		if err != nil {
			// A token taken along with the end of the context belongs to the next waiter.
			if q.used < q.cfg.Capacity {
				signal(q.room)
			}
			q.mu.Unlock()
			return err
		}
		q.put(v, w)
		return nil
	}
}

// TryPush appends an item if there is room, else reports false and counts nothing.
func (q *Queue[T]) TryPush(v T) bool {
	w := max(q.weigh(v), 1)
	q.mu.Lock()
	if q.closed || q.used >= q.cfg.Capacity {
		q.mu.Unlock()
		return false
	}
	q.put(v, w)
	return true
}

// Force appends an item beyond the capacity, for items that must never wait. It reports
// false after Close; then the caller still owns the item.
func (q *Queue[T]) Force(v T) bool {
	w := max(q.weigh(v), 1)
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.put(v, w)
	return true
}

// Offer appends items of vs in their order, as many as the queue takes without waiting, and
// returns how many: under the policy Admit all of them, else those that come while there is
// room. The whole batch costs one lock and one wake-up. It returns ErrFull if some were left
// (counted as dropped under the policy Drop) and net.ErrClosed after Close; the caller still
// owns vs[n:].
func (q *Queue[T]) Offer(vs []T) (n int, err error) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return 0, net.ErrClosed
	}
	for n < len(vs) && (q.used < q.cfg.Capacity || q.cfg.Policy == Admit) {
		q.add(vs[n], max(q.weigh(vs[n]), 1))
		n++
	}
	if n < len(vs) {
		err = ErrFull
		if q.cfg.Policy == Drop {
			q.tally.dropped += uint64(len(vs) - n)
		}
	}
	if n == 0 {
		q.mu.Unlock()
		return 0, err
	}
	q.wake()
	return n, err
}

// put appends and wakes. Called with mu held, returns without.
func (q *Queue[T]) put(v T, w int) {
	q.add(v, w)
	q.wake()
}

// add appends an item of weight w. Called with mu held.
func (q *Queue[T]) add(v T, w int) {
	if q.n == len(q.items) {
		q.grow()
	}
	q.items[(q.head+q.n)%len(q.items)] = v
	q.n++
	q.used += w
	q.tally.in++
	q.tally.high = max(q.tally.high, q.used)
}

// wake wakes a reader, and the next writer if there is room left. Called with mu held,
// returns without.
func (q *Queue[T]) wake() {
	hasRoom := q.used < q.cfg.Capacity
	q.mu.Unlock()
	signal(q.ready)
	if hasRoom {
		signal(q.room)
	}
}

func (q *Queue[T]) grow() {
	bigger := make([]T, max(2*len(q.items), 8))
	for i := range q.n {
		bigger[i] = q.items[(q.head+i)%len(q.items)]
	}
	q.items, q.head = bigger, 0
}

// Pop waits for at least one item and moves up to len(dst) into dst. It returns the
// context's cause when ctx ends first, and net.ErrClosed once the queue is closed and empty.
// dst must not be empty.
func (q *Queue[T]) Pop(ctx context.Context, dst []T) (int, error) {
	for {
		if n := q.TryPop(dst); n > 0 {
			return n, nil
		}
		select {
		case <-q.ready:
		case <-q.done:
			if n := q.TryPop(dst); n > 0 {
				return n, nil
			}
			return 0, net.ErrClosed
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// TryPop moves up to len(dst) waiting items into dst and returns how many; it never waits.
func (q *Queue[T]) TryPop(dst []T) int {
	return q.TryPopFunc(dst, nil)
}

// TryPopFunc is TryPop that stops before the first item for which take reports false; a nil
// take accepts all. take runs under the queue's lock and must only look at the item.
func (q *Queue[T]) TryPopFunc(dst []T, take func(T) bool) int {
	q.mu.Lock()
	n := 0
	var zero T
	for n < len(dst) && q.n > 0 {
		v := q.items[q.head]
		if take != nil && !take(v) {
			break
		}
		q.items[q.head] = zero
		q.head = (q.head + 1) % len(q.items)
		q.n--
		q.used -= max(q.weigh(v), 1)
		dst[n] = v
		n++
	}
	if q.n == 0 && len(q.items) > 1024 {
		q.items, q.head = nil, 0 // a burst is over: give its ring back
	}
	q.tally.out += uint64(n)
	more, hasRoom := q.n > 0, n > 0 && q.used < q.cfg.Capacity
	gone := q.closed && q.n == 0
	q.mu.Unlock()
	if more {
		signal(q.ready)
	}
	if hasRoom {
		signal(q.room)
	}
	if gone {
		q.reg.remove(q.cfg, q)
	}
	return n
}

// Ready returns a channel that yields a token when items may be waiting, for a reader that
// selects over several things. After taking a token call TryPop: it may find nothing.
func (q *Queue[T]) Ready() <-chan struct{} { return q.ready }

// Done is closed by Close.
func (q *Queue[T]) Done() <-chan struct{} { return q.done }

// WaitRoom waits until the queue has room, without taking it. It returns net.ErrClosed after
// Close, and the context's cause when ctx ends first.
func (q *Queue[T]) WaitRoom(ctx context.Context) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return net.ErrClosed
	}
	if q.used < q.cfg.Capacity {
		q.mu.Unlock()
		return nil
	}
	since := time.Now()
	q.tally.waits++
	q.tally.waiting++
	for {
		var err error
		if q.closed {
			err = net.ErrClosed
		}
		if err != nil || q.used < q.cfg.Capacity {
			q.endWait(since)
			return err
		}
		q.mu.Unlock()
		select {
		case <-q.room:
		case <-q.done:
		case <-ctx.Done():
			q.mu.Lock()
			q.endWait(since)
			return context.Cause(ctx)
		}
		q.mu.Lock()
	}
}

// endWait books a wait and passes a token on. Called with mu held, returns without.
func (q *Queue[T]) endWait(since time.Time) {
	q.tally.waiting--
	q.tally.waited += time.Since(since)
	hasRoom := q.used < q.cfg.Capacity
	q.mu.Unlock()
	if hasRoom {
		signal(q.room)
	}
}

// Len is the number of waiting items, Used their weight.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

// Used is the weight of the waiting items.
func (q *Queue[T]) Used() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used
}

// HasRoom reports whether a Push would be taken at once.
func (q *Queue[T]) HasRoom() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.closed && q.used < q.cfg.Capacity
}

// Close ends the queue: writers get net.ErrClosed at once, readers after they took what is
// left. The second call does nothing.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return
	}
	q.closed = true
	empty := q.n == 0
	q.mu.Unlock()
	close(q.done)
	if empty {
		q.reg.remove(q.cfg, q)
	}
}

// CloseEmpty closes the queue if it is empty, and reports whether the queue is closed now. A
// reader that retires calls it: a writer that comes later gets net.ErrClosed, and no item is
// left behind.
func (q *Queue[T]) CloseEmpty() bool {
	q.mu.Lock()
	if q.closed || q.n > 0 {
		defer q.mu.Unlock()
		return q.closed
	}
	q.closed = true
	q.mu.Unlock()
	close(q.done)
	q.reg.remove(q.cfg, q)
	return true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
