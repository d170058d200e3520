package netstack

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// halt ends waits once: by a deadline or by Close. It is a context.Context whose Err is the
// cause, so that waits below need no context of their own and allocate none.
type halt struct {
	done  chan struct{}
	cause error // set before done is closed
}

func newHalt() *halt { return &halt{done: make(chan struct{})} }

// end closes the halt; the caller sees to it that this happens once.
func (h *halt) end(cause error) {
	h.cause = cause
	close(h.done)
}

func (h *halt) Deadline() (time.Time, bool) { return time.Time{}, false }
func (h *halt) Done() <-chan struct{}       { return h.done }
func (h *halt) Value(any) any               { return nil }

func (h *halt) Err() error {
	select {
	case <-h.done:
		return h.cause
	default:
		return nil
	}
}

// deadline is the time limit of one direction of a connection, and its end. A blocked call
// holds one halt from start to finish: setting the deadline moves the timer of that halt, so
// that a call sees also a deadline set while it waits; only a halt that has ended is replaced.
// init must be called first.
type deadline struct {
	cur atomic.Pointer[halt]

	mu     sync.Mutex
	timer  *time.Timer
	when   time.Time // monotonic; zero: none
	closed bool
}

func (d *deadline) init() { d.cur.Store(newHalt()) }

// current is the halt that a call starting now is subject to.
func (d *deadline) current() *halt { return d.cur.Load() }

// set moves the deadline; the zero time takes it away. It returns net.ErrClosed after close.
func (d *deadline) set(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return net.ErrClosed
	}
	if d.timer != nil {
		d.timer.Stop() // a call of expire that is under way finds the new time and does nothing
	}
	d.when = time.Time{}
	if d.cur.Load().Err() != nil {
		d.cur.Store(newHalt())
	}
	if t.IsZero() {
		return nil
	}
	left := time.Until(t)
	if left <= 0 {
		d.cur.Load().end(os.ErrDeadlineExceeded)
		return nil
	}
	d.when = time.Now().Add(left)
	if d.timer == nil {
		d.timer = time.AfterFunc(left, d.expire)
	} else {
		d.timer.Reset(left)
	}
	return nil
}

func (d *deadline) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.when.IsZero() || time.Now().Before(d.when) {
		return
	}
	d.when = time.Time{}
	d.cur.Load().end(os.ErrDeadlineExceeded)
}

// close ends all calls, now and later, with net.ErrClosed, which takes the place of a
// deadline that has passed. The second call does nothing.
func (d *deadline) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	h := d.cur.Load()
	if h.Err() != nil {
		h = newHalt()
		d.cur.Store(h)
	}
	h.end(net.ErrClosed)
}
