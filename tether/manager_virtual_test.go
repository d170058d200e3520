package tether

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
)

// These tests run Managers in virtual time, on links that are no WebRTC (pipe_test.go).

// virtual makes two nodes in a bubble; low has the lower id.
func virtual(t *testing.T, e *ether, change func(*Config)) (h *hub, low, high *node) {
	t.Helper()
	h, low, high = pair(t, change)
	low.maker, high.maker = e.maker, e.maker
	return h, low, high
}

// both waits until each node has its tether and nothing is going on.
func both(t *testing.T, a, b *node) (ab, ba *tether) {
	t.Helper()
	synctest.Wait()
	x, ok1 := a.Neighbor(b.id())
	y, ok2 := b.Neighbor(a.id())
	if !ok1 || !ok2 {
		t.Fatalf("%s has a tether: %v, %s has one: %v", a.name(), ok1, b.name(), ok2)
	}
	return x.(*tether), y.(*tether)
}

// TestGlare has both sides dial at once, under signalling that is late, repeated, reordered
// and lost: one tether comes of it.
func TestGlare(t *testing.T) {
	for round := range 50 {
		synctest.Test(t, func(t *testing.T) {
			e := newEther(time.Duration(round%4) * 5 * time.Millisecond)
			h, a, b := virtual(t, e, nil)
			h.set(func(h *hub) {
				h.rng = newRand(uint64(round))
				h.delay, h.jitter = time.Duration(round%3)*20*time.Millisecond, 200*time.Millisecond
				h.duplicate, h.drop = 0.3, float64(round%3)*0.1
			})
			var wg sync.WaitGroup
			var got [2]Neighbor
			var errs [2]error
			for i, n := range []*node{a, b} {
				wg.Go(func() {
					time.Sleep(time.Duration(round*i) * time.Millisecond / 5)
					got[i], errs[i] = n.Open(context.Background(), []identity.ID{b.id(), a.id()}[i])
				})
			}
			wg.Wait()
			if errs[0] != nil || errs[1] != nil {
				t.Fatal(errs)
			}
			ab, ba := both(t, a, b)
			if got[0] != ab || got[1] != ba {
				t.Error("an Open returned another tether than the one in use")
			}
			time.Sleep(30 * time.Second) // whatever is still on its way
			ab2, ba2 := both(t, a, b)
			if ab2 != ab || ba2 != ba || a.sink.ups != 1 || b.sink.ups != 1 {
				t.Errorf("round %d: the tether was replaced: %d and %d Up", round, a.sink.ups, b.sink.ups)
			}
			if e.open != 2 {
				t.Errorf("round %d: %d link ends are open", round, e.open)
			}
			a.noDrops()
			b.noDrops()
		})
	}
}

// TestMesh has everybody dial everybody at once.
func TestMesh(t *testing.T) {
	const n = 7
	synctest.Test(t, func(t *testing.T) {
		e, h := newEther(time.Millisecond), newHub()
		h.set(func(h *hub) { h.jitter, h.duplicate, h.drop = 200*time.Millisecond, 0.2, 0.1 })
		nodes := make([]*node, n)
		for i := range nodes {
			nodes[i] = newNode(t, h, members()[i], nil)
			nodes[i].maker = e.maker
		}
		var wg sync.WaitGroup
		start := time.Now()
		for _, a := range nodes {
			for _, b := range nodes {
				if a != b {
					wg.Go(func() {
						if _, err := a.Open(context.Background(), b.id()); err != nil {
							t.Errorf("%s to %s: %v", a.name(), b.name(), err)
						}
					})
				}
			}
		}
		wg.Wait()
		t.Logf("all up after %v", time.Since(start))
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if e.open != n*(n-1) {
			t.Errorf("%d link ends are open, want %d", e.open, n*(n-1))
		}
		for _, a := range nodes {
			if got := len(a.Neighbors()); got != n-1 {
				t.Errorf("%s has %d neighbours", a.name(), got)
			}
		}
	})
}

// TestSignallingLoss loses half of all signalling.
func TestSignallingLoss(t *testing.T) {
	for round := range 20 {
		synctest.Test(t, func(t *testing.T) {
			h, a, b := virtual(t, newEther(time.Millisecond), nil)
			h.set(func(h *hub) { h.rng, h.drop, h.jitter = newRand(uint64(round)), 0.5, 10*time.Millisecond })
			if round%2 == 0 {
				a, b = b, a
			}
			start := time.Now()
			a.open(b)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("round %d took %v", round, took)
			}
		})
	}
}

// TestPeerIsAway: the directory knows it, nobody answers. Callers join, attempts are few.
func TestPeerIsAway(t *testing.T) {
	for _, by := range []string{"lower", "higher"} {
		synctest.Test(t, func(t *testing.T) {
			e := newEther(time.Millisecond)
			h, a, b := virtual(t, e, nil)
			if by == "higher" {
				a, b = b, a
			}
			h.set(func(*hub) { b.control.handler = nil })
			start := time.Now()
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if _, err := a.Open(context.Background(), b.id()); !errors.Is(err, ErrDown) || !errors.Is(err, errUnanswered) {
						t.Errorf("Open returned %v", err)
					}
				})
			}
			wg.Wait()
			took := time.Since(start)
			if took < 3*unansweredFor || took > 3*unansweredFor+2*time.Second {
				t.Errorf("Open took %v", took)
			}
			if n := a.notes("attempts"); n != maxFailures {
				t.Errorf("%d attempts", n)
			}
			synctest.Wait()
			if e.open != 0 || len(a.peers) != 0 {
				t.Errorf("%d links and %d peers are left", e.open, len(a.peers))
			}
			if h.sent > 20 {
				t.Errorf("%d signalling messages for nothing", h.sent)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a, b := virtual(t, newEther(time.Millisecond), nil)
		ctx := context.Background()
		start := time.Now()
		if _, err := a.Open(ctx, identity.ID{1}); !errors.Is(err, control.ErrUnknown) {
			t.Errorf("an unknown anchor: %v", err)
		}
		if _, err := a.Open(ctx, a.id()); !errors.Is(err, ErrRefused) {
			t.Errorf("oneself: %v", err)
		}
		if time.Since(start) != 0 {
			t.Errorf("it took %v", time.Since(start))
		}

		h.set(func(h *hub) { h.away = true })
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if _, err := a.Open(short, b.id()); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, control.ErrNotReady) {
			t.Errorf("the Master is away: %v", err)
		}
		time.AfterFunc(time.Hour, func() { h.set(func(h *hub) { h.away = false }) })
		start = time.Now()
		if _, err := a.Open(ctx, b.id()); err != nil {
			t.Errorf("the Master came back: %v", err)
		}
		if late := time.Since(start) - time.Hour; late > time.Second {
			t.Errorf("%v after the Master's return", late)
		}

		cause := errors.New("enough")
		given, give := context.WithCancelCause(ctx)
		give(cause)
		if _, err := a.Open(given, identity.ID{1}); !errors.Is(err, cause) && !errors.Is(err, control.ErrUnknown) {
			t.Errorf("a context with a cause: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if _, err := a.Open(ctx, b.id()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestAdmission: each side alone can refuse; certificates out of force too.
func TestAdmission(t *testing.T) {
	for _, by := range []string{"lower", "higher"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRealm(t)
			h, e := newHub(), newEther(time.Millisecond)
			a, b := newNode(t, h, r.issue("a", "red"), nil), newNode(t, h, r.issue("b", "blue"), func(c *Config) {
				c.Admit = func(*identity.Certificate) bool { return true }
			})
			a.maker, b.maker = e.maker, e.maker
			if _, err := a.Open(context.Background(), b.id()); !errors.Is(err, ErrRefused) {
				t.Errorf("Open by the side that refuses: %v", err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			if _, err := b.Open(ctx, a.id()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Open by the side that is refused: %v", err)
			}
			if a.drops("signal refused") == 0 {
				t.Error("its signalling was not refused")
			}
			if e.made > 2 {
				t.Errorf("%d links were made", e.made)
			}
			_ = by
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(t)
		h, e := newHub(), newEther(time.Millisecond)
		a, b := newNode(t, h, r.issue("a"), nil), newNode(t, h, r.issue("b"), nil)
		a.maker, b.maker = e.maker, e.maker
		n := a.open(b)
		list, err := r.authority.Revoke("b")
		if err != nil {
			t.Fatal(err)
		}
		if !a.cfg.Verifier.Apply(list) {
			t.Fatal("the list is not taken")
		}
		start := time.Now()
		<-n.Done()
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the tether to a revoked anchor ended after %v", took)
		}
		if _, err := a.Open(context.Background(), b.id()); !errors.Is(err, identity.ErrRevoked) {
			t.Errorf("Open to a revoked anchor: %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(a.Neighbors()) != 0 || a.env.list() != list.Number {
			t.Error("it came back")
		}
	})
}

func TestCloseSessionAndDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEther(time.Millisecond)
		_, a, b := virtual(t, e, nil)
		n := a.open(b)
		if err := n.Send(context.Background(), message("work")); err != nil {
			t.Fatal(err)
		}
		a.CloseSession(b.id(), identity.Nonce{1})
		a.CloseSession(identity.ID{1}, b.session.Nonce())
		time.Sleep(time.Second)
		if !n.alive() {
			t.Fatal("another session's end ended it")
		}
		a.CloseSession(b.id(), b.session.Nonce())
		if n.alive() {
			t.Error("it is alive when CloseSession has returned")
		}
		synctest.Wait()
		if a.sink.downs != 1 || !errors.Is(n.err, errEnded) {
			t.Errorf("%d Down, %v", a.sink.downs, n.err)
		}
		time.Sleep(10 * time.Second)
		a.Drop(b.id())
		a.Drop(identity.ID{1})
		synctest.Wait()
		// b revives it, as it had traffic: then Drop ends that.
		m := a.open(b)
		a.Drop(b.id())
		if m.alive() {
			t.Error("it is alive when Drop has returned")
		}
		// Drop of an attempt.
		done := make(chan error)
		e.set(true)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			_, err := a.Open(ctx, b.id())
			done <- err
		}()
		time.Sleep(time.Second)
		a.Drop(b.id())
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open of a dropped attempt, with the path cut: %v", err)
		}
		e.set(false)
	})
}

// TestCloseUnblocks closes a Manager with callers in Open and in Send.
func TestCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEther(time.Millisecond)
		h, a, b := virtual(t, e, nil)
		n := a.open(b)
		e.set(true)
		errs := make([]error, 3)
		var wg sync.WaitGroup
		wg.Go(func() {
			for errs[0] == nil {
				errs[0] = n.Send(context.Background(), block(60000))
			}
		})
		other := identity.ID{7}
		h.set(func(h *hub) { h.members[other] = b.control }) // known, silent: b refuses what is not for it
		wg.Go(func() { _, errs[1] = a.Open(context.Background(), other) })
		wg.Go(func() { errs[2] = n.WaitRoom(context.Background()) })
		time.Sleep(time.Second)
		synctest.Wait()
		start := time.Now()
		for range 3 {
			wg.Go(func() {
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		if !errors.Is(errs[0], ErrDown) || !errors.Is(errs[1], net.ErrClosed) || errs[2] != nil && !errors.Is(errs[2], ErrDown) {
			t.Errorf("the callers got %v", errs)
		}
		if len(a.Neighbors()) != 0 {
			t.Error("a neighbour is left")
		}
		e.set(false)
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, h := newEther(time.Millisecond), newHub()
		hubNode := newNode(t, h, members()[3], func(c *Config) { c.MaxTethers, c.MaxAttempts = 2, 1 })
		hubNode.maker = e.maker
		var others []*node
		for i := range 3 {
			n := newNode(t, h, members()[4+i], nil)
			n.maker = e.maker
			others = append(others, n)
		}
		// One attempt at a time: the second waits for the first.
		var wg sync.WaitGroup
		for _, n := range others[:2] {
			wg.Go(func() { hubNode.open(n) })
		}
		wg.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := hubNode.Open(ctx, others[2].id()); !errors.Is(err, ErrLimit) {
			t.Errorf("a third tether: %v", err)
		}
		if _, err := others[2].Open(ctx, hubNode.id()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a third tether from the other side: %v", err)
		}
		if hubNode.drops("signal refused") == 0 {
			t.Error("its signalling was not refused")
		}
		hubNode.Drop(others[0].id())
		synctest.Wait()
		if _, err := hubNode.Open(context.Background(), others[2].id()); err != nil {
			t.Errorf("a third tether in place of the first: %v", err)
		}
	})
}
