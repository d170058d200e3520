package control_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/controltest"
)

// attempts is a Fabric that keeps when it was asked to connect.
type attempts struct {
	control.Fabric
	mu sync.Mutex
	at []time.Time
}

func (f *attempts) Connect(ctx context.Context) (control.Conn, error) {
	f.mu.Lock()
	f.at = append(f.at, time.Now())
	f.mu.Unlock()
	return f.Fabric.Connect(ctx)
}

// since returns when it was asked, from a moment on.
func (f *attempts) since(t time.Time) (out []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.at {
		if d := at.Sub(t); d >= 0 {
			out = append(out, d)
		}
	}
	return out
}

// TestReconnect: attempts get rarer, to 3 s apart at most, and begin anew only after 30 s of health.
func TestReconnect(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		f := &attempts{Fabric: w.mem.Side("a")}
		a := controltest.NewMember(w, f, w.realm.Issue(w, identity.IssueOptions{Name: "a"}), control.Options{Seed: 3})
		if err := a.Start(w.Context(), nil); err != nil {
			w.Fatal(err)
		}
		outage := func(d time.Duration) []time.Duration {
			began := time.Now()
			w.mem.Stop()
			after(d)
			w.mem.Restart(false)
			after(4 * time.Second)
			if !a.Connected() {
				w.Fatal("not connected 4 s after the return")
			}
			return f.since(began)
		}
		after(time.Minute)
		first := outage(time.Minute)
		if first[0] > 150*time.Millisecond || len(first) < 25 || len(first) > 60 {
			w.Errorf("in an outage of a minute: %d attempts, the first after %v", len(first), first[0])
		}
		for i := 1; i < len(first); i++ {
			if gap := first[i] - first[i-1]; gap > 3*time.Second {
				w.Errorf("%v without an attempt", gap)
			}
		}
		second := outage(100 * time.Millisecond) // 4 s after the first: no health yet
		if second[0] < time.Second {
			w.Errorf("an unhealthy connection is tried again after %v", second[0])
		}
		after(30 * time.Second)
		if third := outage(100 * time.Millisecond); third[0] > 150*time.Millisecond {
			w.Errorf("after 30 s of health the first attempt came after %v", third[0])
		}
	})
}

// TestAnnouncedAgain: after an outage the record is announced within 1 s to an empty directory, and
// within 5 s to one that has it, but not by all at once.
func TestAnnouncedAgain(t *testing.T) {
	t.Parallel()
	for _, empty := range []bool{true, false} {
		inWorld(t, func(w *world) {
			const n = 6
			for i := range n {
				w.join(string(rune('a' + i)))
			}
			after(time.Minute)
			w.mem.Restart(empty)
			if !empty {
				w.clearRecords()
			}
			var when []time.Duration
			began, had := time.Now(), 0
			for time.Since(began) < 6*time.Second {
				after(10 * time.Millisecond)
				if now := len(w.mem.Keys(control.BucketPresence)); now > had {
					when = append(when, time.Since(began))
					had = now
				}
			}
			limit := 1200 * time.Millisecond // with the first attempt to connect
			if !empty {
				limit = 5200 * time.Millisecond
			}
			if had != n || when[len(when)-1] > limit {
				w.Errorf("empty=%v: %d announced, at %v", empty, had, when)
			}
			if len(when) < n/2 {
				w.Errorf("empty=%v: all at once, at %v", empty, when)
			}
		})
	}
}

// clearRecords removes presence, to see who announces again, but leaves the directory old.
func (w *world) clearRecords() {
	conn, err := w.mem.Side("cleaner").Connect(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	for _, k := range w.mem.Keys(control.BucketPresence) {
		if err := conn.Delete(w.Context(), control.BucketPresence, k); err != nil {
			w.Fatal(err)
		}
	}
}

// TestAnnounceWhileAway: a record that changed during an outage is announced after it.
func TestAnnounceWhileAway(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		w.mem.Partition("b", control.PartitionCut)
		synctest.Wait()
		if _, err := b.Session.Advance(time.Now().Add(24 * time.Hour)); err != nil {
			w.Fatal(err)
		}
		if err := b.Announce(w.Context()); !errors.Is(err, control.ErrNotReady) {
			w.Errorf("announce while away: %v", err)
		}
		w.mem.Partition("b", control.PartitionNone)
		after(12 * time.Second)
		got, err := a.Lookup(w.Context(), control.Key{Tag: b.Session.Record().Current.Tag}, false)
		if err != nil || got.ID() != b.ID() {
			w.Error(err)
		}
	})
}

// TestFreshSince: a new directory is fresh for those who come within 15 s, an old one for nobody.
func TestFreshSince(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		began := time.Now()
		a := w.join("a")
		if e := <-a.Events(); !e.Connected || !e.Fresh || !a.FreshSince().Equal(began) {
			w.Errorf("event %+v, fresh since %v", e, a.FreshSince())
		}
		after(10 * time.Second)
		if b := w.join("b"); !b.FreshSince().Equal(began) {
			w.Errorf("10 s later: fresh since %v, want %v", b.FreshSince(), began)
		}
		after(10 * time.Second)
		c := w.join("c")
		if e := <-c.Events(); e.Fresh || !c.FreshSince().IsZero() {
			w.Errorf("20 s later: event %+v, fresh since %v", e, c.FreshSince())
		}
		if !a.FreshSince().Equal(began) {
			w.Errorf("what was fresh is not any more: %v", a.FreshSince())
		}
	})
}

// TestEvents: the newest event is not lost when nobody reads, and the channel ends with the Channel.
func TestEvents(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := w.join("a")
		for range 5 {
			w.mem.Restart(false)
			after(10 * time.Second)
		}
		w.mem.Stop()
		synctest.Wait()
		if e := <-a.Events(); e.Connected || e.Err == nil {
			w.Errorf("the newest event is %+v", e)
		}
		a.Close()
		for range a.Events() {
		}
	})
}

// TestStartOnce: Start after Start and Start after Close are errors, and harm nothing.
func TestStartOnce(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		if err := a.Start(w.Context(), nil); err == nil {
			w.Error("started twice")
		}
		w.send(a, b, "still works")
		w.expect(b, "still works")
		a.Close()
		if err := a.Start(w.Context(), nil); !errors.Is(err, net.ErrClosed) {
			w.Errorf("start after close: %v", err)
		}
	})
}

// TestBeforeStart: nothing panics or hangs before Start, and all that needs the Master says so.
func TestBeforeStart(t *testing.T) {
	m := control.NewMemory(control.MemoryOptions{})
	defer m.Stop()
	a := controltest.NewRealm(t).New(t, m, "a")
	ctx := controltest.Context(t)
	_, lookup := a.Lookup(ctx, control.Key{Name: "b"}, false)
	_, present := a.Present(ctx, identity.ID{1})
	for what, err := range map[string]error{
		"look-up": lookup, "presence": present, "send": a.Send(ctx, identity.ID{1}, control.TopicSignal, nil),
		"broadcast": a.Broadcast(ctx, control.TopicHint, nil), "announce": a.Announce(ctx),
	} {
		if !errors.Is(err, control.ErrNotReady) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if a.Connected() || a.MaxBody() != 0 || a.Err() != nil || !a.FreshSince().IsZero() {
		t.Error("there is a state before Start")
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := a.Start(ctx, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("start: %v", err)
	}
	for what, err := range map[string]error{
		"send": a.Send(ctx, identity.ID{1}, control.TopicSignal, nil), "announce": a.Announce(ctx),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

// TestCloseAnyTime closes a Channel at many moments of its start, by several goroutines, over a fabric
// that takes its time or does not answer.
func TestCloseAnyTime(t *testing.T) {
	t.Parallel()
	for _, rule := range []control.Rule{{}, {Delay: 5 * time.Millisecond}, {Subject: "$KV.>", Drop: 1}} {
		inWorld(t, func(w *world) {
			w.mem.SetRules(rule)
			id := w.realm.Issue(w, identity.IssueOptions{Name: "a"})
			for _, wait := range []time.Duration{0, 4, 12, 40, 3000} {
				a := controltest.NewMember(w, w.mem.Side("a"), id, control.Options{})
				started := make(chan error, 1)
				go func() { started <- a.Start(w.Context(), nil) }()
				after(wait * time.Millisecond)
				began := time.Now()
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() { a.Close() })
				}
				wg.Wait()
				if took := time.Since(began); took > time.Second {
					w.Errorf("%+v: closing after %v ms took %v", rule, wait, took)
				}
				if err := <-started; err != nil && !errors.Is(err, net.ErrClosed) {
					w.Errorf("%+v: start ended with %v", rule, err)
				}
			}
		})
	}
}

// TestSlowHandler: a handler that is stuck with one sender holds up no other, whether it handles or the
// look-up of a sender takes its time.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		id := w.realm.Issue(w, identity.IssueOptions{Name: "b"})
		b := controltest.NewMember(w, w.mem.Side("b"), id, control.Options{})
		stuck := make(chan struct{})
		if err := b.Start(w.Context(), func(m control.Message) {
			if m.From.Name == "slow" {
				<-stuck
			}
			b.Handle(m)
		}); err != nil {
			w.Fatal(err)
		}
		slow, unknown := w.join("slow"), w.join("unknown")
		w.send(slow, b, "slow")
		w.expect(b)
		// The look-up of a sender to all takes as long as the Master likes.
		w.mem.SetRules(control.Rule{From: "b", Subject: "$KV.>", Drop: 1})
		if err := unknown.Broadcast(w.Context(), control.TopicHint, nil); err != nil {
			w.Fatal(err)
		}
		w.expect(b)
		began := time.Now()
		for _, name := range []string{"x", "y", "z"} {
			w.send(w.join(name), b, "quick")
			w.expect(b, "quick")
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			w.Errorf("the others waited %v", took)
		}
		close(stuck)
		w.expect(b, "slow")
		b.Close()
	})
}
