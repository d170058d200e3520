package tether

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/transport/v5"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// These tests run Managers on pion.

// TestRealGlare dials from both sides at once, 50 times, with signalling that is late,
// repeated and reordered.
func TestRealGlare(t *testing.T) {
	h, a, b := pair(t, nil)
	h.set(func(h *hub) { h.jitter, h.duplicate = 15*time.Millisecond, 0.3 })
	for round := range 50 {
		var wg sync.WaitGroup
		var ab, ba *tether
		wg.Go(func() { ab = a.open(b) })
		wg.Go(func() { ba = b.open(a) })
		wg.Wait()
		if t.Failed() {
			return
		}
		if !ab.alive() || !ba.alive() {
			t.Fatalf("round %d: alive: %v and %v", round, ab.alive(), ba.alive())
		}
		if ups, _, _ := a.sink.counts(); ups != round+1 {
			t.Fatalf("round %d: %d Up", round, ups)
		}
		// The one tether works both ways.
		for _, x := range []struct {
			by *tether
			to *node
		}{{ab, b}, {ba, a}} {
			if err := x.by.Send(context.Background(), message("hi")); err != nil {
				t.Fatal(err)
			}
			x.to.await("the message", func() bool { _, _, n := x.to.sink.counts(); return n == round+1 })
		}
		a.Drop(b.id())
		b.Drop(a.id())
		for _, n := range []*node{a, b} {
			n.await("Down", func() bool { _, downs, _ := n.sink.counts(); return downs == round+1 })
		}
	}
	a.noDrops()
	b.noDrops()
}

// TestMeddling has the Master, or another member that broke control's signatures, change
// what is signed: no tether comes of it, and no byte passes.
func TestMeddling(t *testing.T) {
	change := map[string]func(s *wire.Signal){
		"fingerprint of asks and answers": func(s *wire.Signal) {
			if s.Type != wire.SignalOffer {
				s.Description.Fingerprint[0] ^= 1
			}
		},
		"fingerprint of offers": func(s *wire.Signal) {
			if s.Type == wire.SignalOffer {
				s.Description.Fingerprint[0] ^= 1
			}
		},
		"candidates": func(s *wire.Signal) { // somebody who does not answer
			for i := range s.Candidates {
				s.Candidates[i].Addr = netip.MustParseAddrPort("127.0.0.1:9")
			}
		},
		"credentials": func(s *wire.Signal) {
			if s.Description.Pwd != "" {
				s.Description.Pwd = "0123456789012345678901"
			}
		},
	}
	for name, f := range change {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, a, b := pair(t, nil)
			h.set(func(h *hub) {
				h.meddle = func(body []byte) []byte {
					s, err := wire.ParseSignal(body)
					if err != nil {
						t.Error(err)
						return body
					}
					f(s)
					return s.Append(nil)
				}
			})
			ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
			defer cancel()
			if n, err := b.Open(ctx, a.id()); err == nil {
				t.Errorf("a tether is up: %+v", n.Info())
			}
			for _, n := range []*node{a, b} {
				if ups, _, _ := n.sink.counts(); ups != 0 {
					t.Errorf("%s: %d Up", n.name(), ups)
				}
			}
		})
	}
}

// TestUnusableAddresses has no address left on one side: nothing is offered and what is offered
// is not accepted.
func TestUnusableAddresses(t *testing.T) {
	h := newHub()
	var asked atomic.Int32
	a := newNode(t, h, members()[0], func(c *Config) {
		c.Usable = func(iface string, addr netip.Addr) bool {
			asked.Add(1)
			return false
		}
	})
	b := newNode(t, h, members()[1], nil)
	h.set(func(h *hub) {
		h.meddle = func(body []byte) []byte {
			if s, err := wire.ParseSignal(body); err != nil || s.From == [32]byte(a.id()) && len(s.Candidates) != 0 {
				t.Errorf("%v with %d candidates", s.Type, len(s.Candidates))
			}
			return body
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := b.Open(ctx, a.id()); err == nil {
		t.Error("a tether is up")
	}
	if asked.Load() == 0 {
		t.Error("nobody was asked")
	}
}

// TestOverlayCandidatesAreIgnored: a peer's own overlay address is no way to the peer.
func TestOverlayCandidatesAreIgnored(t *testing.T) {
	_, a, b := pair(t, nil)
	p := &peer{m: a.Manager}
	at := &attempt{cert: b.own}
	for addr, want := range map[netip.Addr]bool{
		b.own.IPv6: false, a.own.IPv6: false, netip.MustParseAddr("127.0.0.1"): true, netip.MustParseAddr("127.0.0.2"): false,
	} {
		if got := p.usable(at, wire.Candidate{Type: wire.CandidateHost, Addr: netip.AddrPortFrom(addr, 1)}); got != want {
			t.Errorf("%v is usable: %v", addr, got)
		}
	}
}

// TestSaturated sends as much as goes both ways at once: everything arrives, nothing is dropped,
// and the tether survives it.
func TestSaturated(t *testing.T) {
	const messages = 100
	_, a, b := pair(t, nil)
	ab := a.open(b)
	b.await("its tether", func() bool { _, ok := b.Neighbor(a.id()); return ok })
	nb, _ := b.Neighbor(a.id())
	ba := nb.(*tether)
	var got [2]atomic.Int64
	count := func(i int) func(Neighbor, *buffer.Buf) {
		seen := make([]bool, messages)
		return func(_ Neighbor, m *buffer.Buf) {
			n := binary.BigEndian.Uint32(m.Bytes()[4:])
			if m.Len() != benchSize || seen[n] {
				t.Errorf("message %d of %d bytes came again or changed", n, m.Len())
			}
			seen[n] = true
			got[i].Add(1)
		}
	}
	a.sink.took, b.sink.took = count(0), count(1)
	var wg sync.WaitGroup
	for _, n := range []*tether{ab, ba} {
		wg.Go(func() {
			for i := range messages {
				m := buffer.Get(benchSize)
				p := m.Extend(benchSize)
				p[0], p[1] = 1, 1
				binary.BigEndian.PutUint32(p[4:], uint32(i))
				if err := n.Send(context.Background(), m); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i, n := range []*node{a, b} {
		n.await("all messages", func() bool { return got[i].Load() == messages })
		n.noDrops()
		if q := n.queues.Snapshot(); len(q) == 0 || q[0].Name != "tether.link" || q[0].HighWater < q[0].Capacity {
			t.Errorf("%s: the queue was never full: %+v", n.name(), q)
		}
	}
	if !ab.alive() || !ba.alive() {
		t.Error("the tether ended")
	}
	if i := ab.Info(); i.Sent != messages*benchSize || i.Got != messages*benchSize || i.RTT == 0 {
		t.Errorf("info %+v", i)
	}
}

const benchSize = 37500

// TestStarvation burns every processor while a tether is in use: it must not be taken for dead.
func TestStarvation(t *testing.T) {
	_, a, b := pair(t, nil)
	n := a.open(b)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 8 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for x := uint64(1); ctx.Err() == nil; {
				for range 1 << 16 {
					x = x*6364136223846793005 + 1
				}
			}
		})
	}
	var worst time.Duration
	for ctx.Err() == nil {
		if err := n.Send(context.Background(), message("work")); err != nil {
			t.Error(err)
			break
		}
		time.Sleep(10 * time.Millisecond)
		n.mu.Lock()
		worst = max(worst, n.pulse.quiet)
		n.mu.Unlock()
	}
	wg.Wait()
	n.mu.Lock()
	t.Logf("longest silence %v, bound %v", worst, n.pulse.bound(busyBeat))
	n.mu.Unlock()
	if !n.alive() || a.notes("deaths by silence")+b.notes("deaths by silence") != 0 {
		t.Errorf("taken for dead: %v", n.err)
	}
}

// TestCloseWhileOpening closes either side at moments of an attempt.
func TestCloseWhileOpening(t *testing.T) {
	for i := range 16 {
		_, a, b := pair(t, nil)
		if i%2 == 1 {
			a, b = b, a
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if _, err := a.Open(ctx, b.id()); err == nil && i < 2 {
				t.Log("it was up before it was closed")
			}
		})
		time.Sleep(time.Duration(i/2) * 500 * time.Microsecond)
		start := time.Now()
		closing := []*node{a, b}[i/4%2]
		if err := closing.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("round %d: Close took %v", i, took)
		}
		if closing != a {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
	}
}

// virtualNet runs two nodes on pion over vnet in a bubble.
func virtualNet(t *testing.T) (h *hub, low, high *node, l *loss) {
	t.Helper()
	na, nb, l := newVnet(t, 5*time.Millisecond)
	h = newHub()
	on := func(n transport.Net) func(*Config) {
		return func(c *Config) { c.Net, c.Usable = n, nil }
	}
	low, high = newNode(t, h, members()[0], on(na)), newNode(t, h, members()[1], on(nb))
	// No end hears of the other's close: pion then closes by itself and waits for a timer under a
	// mutex that another of its goroutines wants, and the bubble's clock stands still.
	t.Cleanup(func() { l.set(1) })
	return h, low, high, l
}

// TestRealOutage cuts a path under pion, in virtual time, for a while: the death is noticed, and
// traffic flows again soon after the path is back.
func TestRealOutage(t *testing.T) {
	for _, outage := range []time.Duration{time.Second, 5 * time.Second, 5 * time.Minute} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b, l := virtualNet(t)
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				wg.Go(func() { traffic(ctx, a, b) })
				b.await("traffic", func() bool { _, _, n := b.sink.counts(); return n > 10 })
				first := a.open(b)
				if rtt := first.Info().RTT; rtt < 9*time.Millisecond || rtt > 30*time.Millisecond {
					t.Errorf("RTT is %v on a path of 10 ms", rtt)
				}
				l.set(1)
				start := time.Now()
				if outage > 3*time.Second {
					<-first.Done()
					t.Logf("the death was noticed after %v", time.Since(start))
					if took := time.Since(start); took > 2*minRTO+500*time.Millisecond {
						t.Errorf("the death was noticed after %v", took)
					}
				}
				time.Sleep(outage - time.Since(start))
				l.set(0)
				_, _, before := b.sink.counts()
				start = time.Now()
				b.await("traffic again", func() bool { _, _, n := b.sink.counts(); return n > before+5 })
				took := time.Since(start)
				t.Logf("traffic again after %v", took)
				if took > 5*time.Second {
					t.Errorf("traffic came again after %v", took)
				}
				if outage == time.Second && !first.alive() {
					t.Error("a second's outage ended the tether")
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// TestRealWriterWakes has a writer wait on a path that is gone: it gets an error when the tether is
// taken for dead.
func TestRealWriterWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, l := virtualNet(t)
		n := a.open(b)
		l.set(1)
		start := time.Now()
		var err error
		for err == nil {
			err = n.Send(context.Background(), block(60000))
		}
		took := time.Since(start)
		if !errors.Is(err, ErrDown) || took < time.Second || took > 4*time.Second {
			t.Errorf("Send returned %v after %v", err, took)
		}
		l.set(0)
	})
}

// TestRealIdle lets a tether on pion be idle for long, in virtual time, while the Master is away;
// then it ends.
func TestRealIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a, b, l := virtualNet(t)
		n := a.open(b)
		h.set(func(h *hub) { h.away = true })
		time.Sleep(15 * time.Minute)
		if !n.alive() {
			t.Fatal(n.err)
		}
		l.set(1) // see virtualNet; death would be noticed after 3 s
		h.set(func(h *hub) { h.away = false })
		start := time.Now()
		<-n.Done()
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it ended after %v", took)
		}
		b.await("Down", func() bool { _, downs, _ := b.sink.counts(); return downs == 1 })
	})
}

// TestRealLoss carries messages through 5 % loss both ways.
func TestRealLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 300
		_, a, b, l := virtualNet(t)
		n := a.open(b)
		l.set(0.05)
		for range messages {
			if err := n.Send(context.Background(), block(3000)); err != nil {
				t.Fatal(err)
			}
		}
		b.await("all messages", func() bool { _, _, got := b.sink.counts(); return got == messages })
		if !n.alive() {
			t.Error(n.err)
		}
		l.set(0)
	})
}

// TestRealRestart replaces one side by a new session while the other has a tether to the old.
func TestRealRestart(t *testing.T) {
	h, a, b := pair(t, nil)
	old := a.open(b)
	h.set(func(h *hub) { delete(h.members, b.id()) }) // b goes on in silence, as a zombie would
	again := newNodeWith(t, h, newSession(t, b.session.Identity()), nil)
	start := time.Now()
	n := again.open(a)
	a.await("the new session", func() bool {
		nb, ok := a.Neighbor(b.id())
		return ok && nb.Session() == again.session.Nonce()
	})
	t.Logf("replaced after %v", time.Since(start))
	if old.alive() || !n.alive() {
		t.Errorf("alive: old %v, new %v", old.alive(), n.alive())
	}
	if ups, downs, _ := a.sink.counts(); ups != 2 || downs != 1 {
		t.Errorf("%d Up, %d Down", ups, downs)
	}
}

func TestValidateICEServers(t *testing.T) {
	for _, tt := range []struct {
		s  ICEServer
		ok bool
	}{
		{ICEServer{URLs: []string{"stun:stun.example.net:3478"}}, true},
		{ICEServer{URLs: []string{"turn:turn.example.net?transport=udp", "turns:turn.example.net:5349"}, Username: "u", Credential: "c"}, true},
		{ICEServer{URLs: []string{"http://example.net"}}, false},
		{ICEServer{URLs: []string{"stun.example.net"}}, false},
		{ICEServer{URLs: []string{"turn:turn.example.net"}}, false},
		{ICEServer{}, true},
	} {
		if err := ValidateICEServers([]ICEServer{tt.s}); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.s, err)
		}
	}
	if err := ValidateICEServers(nil); err != nil {
		t.Error(err)
	}
	// A bad one is the fault of each Open.
	h := newHub()
	a := newNode(t, h, members()[0], func(c *Config) { c.ICEServers = []ICEServer{{URLs: []string{"x"}}} })
	newNode(t, h, members()[1], nil)
	if _, err := a.Open(context.Background(), identity.ID(members()[1].ID())); !errors.Is(err, ErrDown) {
		t.Errorf("Open with a bad ICE server: %v", err)
	}
}
