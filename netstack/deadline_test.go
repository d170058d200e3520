//go:build !js

package netstack

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func ended(h *halt) error { return h.Err() }

func TestDeadlineBasics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d deadline
		d.init()
		h := d.current()
		if ended(h) != nil {
			t.Error("ended at the start")
		}
		d.set(time.Now().Add(time.Second))
		time.Sleep(time.Second - 1)
		if ended(h) != nil {
			t.Error("ended early")
		}
		d.set(time.Now().Add(time.Second)) // extended: the same call goes on
		time.Sleep(time.Second - 1)
		if ended(h) != nil || d.current() != h {
			t.Error("ended although extended")
		}
		time.Sleep(1)
		synctest.Wait()
		if !errors.Is(ended(h), os.ErrDeadlineExceeded) {
			t.Errorf("at the deadline: %v", ended(h))
		}
		if d.current() != h {
			t.Error("a passed deadline is forgotten")
		}
		d.set(time.Time{})
		if ended(d.current()) != nil || ended(h) == nil {
			t.Error("clearing the deadline revives the call that it ended, or does not clear")
		}
		d.set(time.Now().Add(-1))
		if !errors.Is(ended(d.current()), os.ErrDeadlineExceeded) {
			t.Error("a deadline in the past does not end")
		}
		d.set(time.Now().Add(time.Hour))
		d.close()
		d.close()
		if !errors.Is(ended(d.current()), net.ErrClosed) || !errors.Is(d.set(time.Now()), net.ErrClosed) {
			t.Error("close does not end")
		}
		time.Sleep(2 * time.Hour) // the timer is gone
		if !errors.Is(ended(d.current()), net.ErrClosed) {
			t.Error("the deadline takes the place of close")
		}
	})
}

// TestDeadlineCloseAfter: close takes the place of a deadline that has passed.
func TestDeadlineCloseAfter(t *testing.T) {
	var d deadline
	d.init()
	d.set(time.Now().Add(-1))
	h := d.current()
	d.close()
	if !errors.Is(ended(h), os.ErrDeadlineExceeded) || !errors.Is(ended(d.current()), net.ErrClosed) {
		t.Errorf("%v, then %v", ended(h), ended(d.current()))
	}
}

// TestDeadlineModel compares random sequences with a model that knows only the last deadline.
func TestDeadlineModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		var d deadline
		d.init()
		var model time.Time
		for range 5000 {
			switch rng.IntN(3) {
			case 0:
				model = time.Now().Add(time.Duration(rng.IntN(20)-5) * time.Millisecond)
				d.set(model)
			case 1:
				model = time.Time{}
				d.set(model)
			case 2:
				time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
			}
			synctest.Wait()
			want := !model.IsZero() && !model.After(time.Now())
			if got := ended(d.current()) != nil; got != want {
				t.Fatalf("ended %v, want %v", got, want)
			}
		}
	})
}

// TestHaltContext: a halt is a context with its cause.
func TestHaltContext(t *testing.T) {
	h := newHalt()
	child, cancel := context.WithCancel(h)
	defer cancel()
	h.end(net.ErrClosed)
	<-child.Done()
	if context.Cause(h) != net.ErrClosed || context.Cause(child) != net.ErrClosed {
		t.Errorf("causes %v and %v", context.Cause(h), context.Cause(child))
	}
	if _, ok := h.Deadline(); ok || h.Value(0) != nil {
		t.Error("a deadline or value")
	}
}
