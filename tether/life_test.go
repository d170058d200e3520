package tether

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
)

// TestRestart has a peer die without a word and come back as another session.
func TestRestart(t *testing.T) {
	for _, tt := range []struct{ dead, dials string }{{"low", "dead"}, {"low", "other"}, {"high", "dead"}, {"high", "other"}} {
		t.Run(tt.dead+" dies, "+tt.dials+" dials", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEther(time.Millisecond)
				h, a, b := virtual(t, e, nil)
				if tt.dead == "low" {
					a, b = b, a
				}
				// b is to die; a stays.
				old := a.open(b)
				time.Sleep(3 * time.Second)
				synctest.Wait()
				record := b.session.Record()
				again := restart(t, b)
				again.maker = e.maker
				h.set(func(*hub) { a.control.stale = map[identity.ID]*identity.Record{b.id(): record} })
				start := time.Now()
				if tt.dials == "dead" {
					again.open(a)
				} else {
					<-old.Done() // by silence: nobody tells
					if took := time.Since(start); took > 4*time.Second {
						t.Errorf("the death was noticed after %v", took)
					}
					a.open(again)
				}
				took := time.Since(start)
				ab, ba := both(t, a, again)
				if ab.Session() != again.session.Nonce() || ba.Session() != a.session.Nonce() {
					t.Error("the tether is not of the new session")
				}
				if old.alive() || a.sink.ups != 2 || a.sink.downs != 1 {
					t.Errorf("the old tether is alive: %v; %d Up, %d Down", old.alive(), a.sink.ups, a.sink.downs)
				}
				limit := 10 * time.Second
				if tt.dials == "dead" {
					limit = 500 * time.Millisecond
				}
				if took > limit {
					t.Errorf("it took %v", took)
				}
				t.Logf("the new tether is up after %v", took)
			})
		})
	}
}

// restart replaces a node by a new session of its identity; the old one stops without a word.
func restart(t *testing.T, n *node) *node {
	t.Helper()
	h := n.control.hub
	h.set(func(h *hub) { delete(h.members, n.id()) })
	for _, nb := range n.Neighbors() {
		nb.(*tether).link.(*pipeLink).freeze()
	}
	return newNodeWith(t, h, newSession(t, n.session.Identity()), nil)
}

// freeze makes the link a dead process's: nothing gets in or out, nobody is told.
func (l *pipeLink) freeze() {
	l.mu.Lock()
	peer := l.peer
	l.peer = newDeadEnd(l.e)
	l.mu.Unlock()
	peer.mu.Lock()
	peer.peer = newDeadEnd(l.e)
	peer.mu.Unlock()
}

// newDeadEnd is a peer that nothing comes from.
func newDeadEnd(e *ether) *pipeLink {
	l := &pipeLink{e: e, notify: func() {}, mute: true}
	l.cond = sync.NewCond(&l.mu)
	return l
}

// TestOutage cuts the path, and the Master with it, for a while under traffic. When both are
// back the tether is up again within 5 s.
func TestOutage(t *testing.T) {
	for _, outage := range []time.Duration{time.Second, 5 * time.Second, 40 * time.Second, 5 * time.Minute} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEther(10 * time.Millisecond)
				h, a, b := virtual(t, e, nil)
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				wg.Go(func() { traffic(ctx, a, b) })
				b.await("traffic", func() bool { _, _, n := b.sink.counts(); return n > 10 })
				first := a.open(b)
				e.set(true)
				h.set(func(h *hub) { h.away = true })
				time.Sleep(outage)
				e.set(false)
				h.set(func(h *hub) { h.away = false })
				_, _, before := b.sink.counts()
				start := time.Now()
				b.await("traffic again", func() bool { _, _, n := b.sink.counts(); return n > before+5 })
				took := time.Since(start)
				t.Logf("traffic again after %v", took)
				if took > 5*time.Second {
					t.Errorf("traffic came again after %v", took)
				}
				if outage < 2*minRTO-time.Second/2 && !first.alive() {
					t.Errorf("the tether died of %v", outage)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// traffic sends a message every 20 ms as long as ctx lasts, as the packages above would.
func traffic(ctx context.Context, from, to *node) {
	for ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		if n, err := from.Open(short, to.id()); err == nil {
			_ = n.Send(short, message("work"))
		}
		cancel()
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// TestRevives: a tether that dies under traffic is set up again though nobody calls Open; an
// idle one is not.
func TestRevives(t *testing.T) {
	for _, busy := range []bool{true, false} {
		t.Run(fmt.Sprintf("busy=%v", busy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEther(time.Millisecond)
				h, a, b := virtual(t, e, nil)
				n := a.open(b)
				if busy {
					if err := n.Send(context.Background(), message("work")); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				e.set(true)
				<-n.Done()
				time.Sleep(time.Second)
				e.set(false)
				start := time.Now()
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if _, up := a.Neighbor(b.id()); up != busy {
					t.Errorf("up again: %v", up)
				}
				if busy {
					ab, _ := both(t, a, b)
					t.Logf("up again %v after the path", ab.since.Sub(start))
				}
				if !busy && a.notes("attempts")+b.notes("attempts") != 2 {
					t.Error("an idle tether was set up again")
				}
				_ = h
			})
		})
	}
}

// TestReviveGivesUp stops trying when the peer does not come back.
func TestReviveGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEther(time.Millisecond)
		h, a, b := virtual(t, e, nil)
		n := a.open(b)
		if err := n.Send(context.Background(), message("work")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		e.set(true)
		h.set(func(h *hub) { h.members[b.id()].handler = nil; h.members[a.id()].handler = nil })
		<-n.Done()
		time.Sleep(reviveFor + unansweredFor + time.Second)
		synctest.Wait()
		sent := h.sent
		time.Sleep(time.Hour)
		synctest.Wait()
		if h.sent != sent || len(a.peers) != 0 || len(b.peers) != 0 {
			t.Errorf("still trying: %d messages, %d and %d peers", h.sent-sent, len(a.peers), len(b.peers))
		}
		e.set(false)
	})
}

// TestIdleTeardown: after a minute without messages both ends are gone, and so are their
// goroutines; the next Open makes a new tether.
func TestIdleTeardown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEther(time.Millisecond)
		h, a, b := virtual(t, e, nil)
		first := a.open(b)
		time.Sleep(50 * time.Second)
		if !first.alive() {
			t.Fatal(first.err)
		}
		h.set(func(h *hub) { h.away = true })
		time.Sleep(time.Hour)
		if !first.alive() {
			t.Fatalf("while the Master is away: %v", first.err)
		}
		h.set(func(h *hub) { h.away = false })
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if first.alive() || len(a.Neighbors())+len(b.Neighbors()) != 0 || e.open != 0 {
			t.Errorf("alive: %v, %d link ends open", first.alive(), e.open)
		}
		if len(a.peers)+len(b.peers) != 0 {
			t.Error("peers without anything to do are kept")
		}
		if again := a.open(b); again == first {
			t.Error("the same tether again")
		}
		a.noDrops()
		b.noDrops()
	})
}
