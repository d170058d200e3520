package control_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/internal/controltest"
)

// arrival is a message and when it came after the sending began.
type arrival struct {
	msg string
	at  time.Duration
}

// pass sends n messages from side a to side b of a Memory in virtual time, 1 ms apart, and returns what
// arrived within an hour.
func pass(t *testing.T, seed uint64, n int, rules ...control.Rule) []arrival {
	var out []arrival
	synctest.Test(t, func(t *testing.T) {
		m := control.NewMemory(control.MemoryOptions{Seed: seed})
		defer m.Stop()
		m.SetRules(rules...)
		a, err := m.Side("a").Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b, err := m.Side("b").Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		began := time.Now()
		if _, err := b.Subscribe("x.*", func(msg []byte) {
			out = append(out, arrival{string(msg), time.Since(began)})
		}); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if err := a.Publish(t.Context(), "x.y", fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
	})
	return out
}

func TestMemoryFaults(t *testing.T) {
	const n = 1000
	count := func(as []arrival) int { return len(as) }
	late := func(as []arrival) (n int) { // how many are not where they were sent
		for i, a := range as {
			if a.msg != fmt.Sprint(i) {
				n++
			}
		}
		return n
	}
	within := func(what string, got, low, high int) {
		t.Helper()
		if got < low || got > high {
			t.Errorf("%s: %d, want %d to %d", what, got, low, high)
		}
	}
	plain := pass(t, 1, n)
	within("no faults", count(plain), n, n)
	within("dropped a tenth", count(pass(t, 1, n, control.Rule{Drop: 0.1})), 850, 950)
	within("duplicated a tenth", count(pass(t, 1, n, control.Rule{Duplicate: 0.1})), 1050, 1150)
	within("dropped all", count(pass(t, 1, n, control.Rule{Drop: 1})), 0, 0)
	within("rule for another sender", count(pass(t, 1, n, control.Rule{From: "c", Drop: 1})), n, n)
	within("rule for another receiver", count(pass(t, 1, n, control.Rule{To: "c", Drop: 1})), n, n)
	within("rule for another subject", count(pass(t, 1, n, control.Rule{Subject: "x.z", Drop: 1})), n, n)
	within("rule for these", count(pass(t, 1, n, control.Rule{From: "a", To: "b", Subject: "x.>", Drop: 1})), 0, 0)
	within("the first rule that fits", count(pass(t, 1, n, control.Rule{From: "a"}, control.Rule{Drop: 1})), n, n)

	delayed := pass(t, 1, n, control.Rule{Delay: 20 * time.Millisecond})
	within("delayed", count(delayed), n, n)
	for i, a := range delayed {
		if want := time.Duration(i+20) * time.Millisecond; a.at != want || a.msg != fmt.Sprint(i) {
			t.Fatalf("message %d came as %q at %v, want %v", i, a.msg, a.at, want)
		}
	}
	jittery := pass(t, 1, n, control.Rule{Delay: 10 * time.Millisecond, Jitter: 50 * time.Millisecond})
	within("jittery", count(jittery), n, n)
	swapped := pass(t, 1, n, control.Rule{Reorder: 0.1, HoldBack: 5 * time.Millisecond})
	within("reordered", count(swapped), n, n)
	within("out of their place", late(plain), 0, 0)
	within("out of their place by reordering", late(swapped), 100, 700)
	within("out of their place by jitter", late(jittery), 500, n)
}

// TestMemoryRepeats: a seed makes the same faults again, another one others.
func TestMemoryRepeats(t *testing.T) {
	rule := control.Rule{Jitter: 5 * time.Millisecond, Drop: 0.2, Duplicate: 0.2, Reorder: 0.2}
	one := pass(t, 1, 300, rule)
	if !slices.Equal(one, pass(t, 1, 300, rule)) {
		t.Error("the same seed, other faults")
	}
	if slices.Equal(one, pass(t, 2, 300, rule)) {
		t.Error("another seed, the same faults")
	}
}

func TestMemoryPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := control.NewMemory(control.MemoryOptions{})
		defer m.Stop()
		a, err := m.Side("a").Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Side("b").Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		n := 0
		if _, err := b.Subscribe("x", func([]byte) { n++ }); err != nil {
			t.Fatal(err)
		}
		short := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			return ctx
		}

		m.Partition("a", control.PartitionSilent)
		if err := a.Publish(t.Context(), "x", nil); err != nil {
			t.Error("a silent partition is noticed:", err)
		}
		if err := a.Put(short(), control.BucketRecords, "k", nil); err == nil {
			t.Error("a silent partition answers")
		}
		if _, err := m.Side("a").Connect(short()); err == nil {
			t.Error("connected through a silent partition")
		}
		if err := b.Put(t.Context(), control.BucketRecords, "k", nil); err != nil {
			t.Error("the other side is cut off:", err)
		}
		m.Partition("a", control.PartitionNone)
		if err := a.Publish(t.Context(), "x", nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n != 1 {
			t.Errorf("%d messages arrived, want 1", n)
		}

		m.Partition("a", control.PartitionCut)
		<-a.Done()
		a.Close()
		if _, err := m.Side("a").Connect(t.Context()); err == nil {
			t.Error("connected through a cut")
		}
		m.Partition("a", control.PartitionNone)
		a, err = m.Side("a").Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
	})
}

// TestMemoryPresenceEnds: presence entries end by themselves, records do not.
func TestMemoryPresenceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := control.NewMemory(control.MemoryOptions{})
		defer m.Stop()
		c, err := m.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, b := range []control.Bucket{control.BucketPresence, control.BucketRecords} {
			if err := c.Put(t.Context(), b, "k", nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(control.PresenceTTL)
		if _, err := c.Get(t.Context(), control.BucketPresence, "k"); err != nil {
			t.Error("ended too early:", err)
		}
		time.Sleep(time.Second)
		if _, err := c.Get(t.Context(), control.BucketPresence, "k"); err == nil {
			t.Error("presence does not end")
		}
		if _, err := c.Get(t.Context(), control.BucketRecords, "k"); err != nil {
			t.Error("a record ended:", err)
		}
	})
}

// TestBadFabric runs signalling over a fabric that does everything wrong: what arrives is whole, comes
// once, and each sender's messages that were not delayed come in order.
func TestBadFabric(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := control.NewMemory(control.MemoryOptions{Seed: 5})
		defer m.Stop()
		r := controltest.NewRealm(t)
		a, b := r.New(t, m.Side("a"), "a"), r.New(t, m.Side("b"), "b")
		defer a.Close()
		defer b.Close()
		for _, x := range []*controltest.Member{a, b} {
			if err := x.Start(t.Context(), x.Handle); err != nil {
				t.Fatal(err)
			}
		}
		const n = 150
		for _, c := range []struct {
			rule      control.Rule
			low, high int
			replays   bool
		}{
			{control.Rule{Subject: "anchor.>", Duplicate: 0.5}, n, n, true},
			{control.Rule{Subject: "anchor.>", Delay: 50 * time.Millisecond, Jitter: 200 * time.Millisecond}, n, n, false},
			{control.Rule{Subject: "anchor.>", Reorder: 0.3, Duplicate: 0.3}, n, n, true},
			{control.Rule{Subject: "anchor.>", Drop: 0.3}, n / 2, n - 1, false},
		} {
			m.SetRules(c.rule)
			before := b.Drops()["replayed"]
			for i := range n {
				if err := a.Send(t.Context(), b.ID(), control.TopicSignal, fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			seen := make(map[string]bool)
			for b.Received() > 0 {
				msg := b.Receive(t)
				if seen[string(msg.Body)] {
					t.Fatalf("%+v: %q came twice", c.rule, msg.Body)
				}
				seen[string(msg.Body)] = true
			}
			if len(seen) < c.low || len(seen) > c.high {
				t.Errorf("%+v: %d of %d arrived", c.rule, len(seen), n)
			}
			if got := b.Drops()["replayed"] - before; (got > 0) != c.replays {
				t.Errorf("%+v: %d replays", c.rule, got)
			}
		}
		for name, n := range b.Drops() {
			if name != "replayed" {
				t.Errorf("%d dropped as %s", n, name)
			}
		}
	})
}
