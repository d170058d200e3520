package control

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
)

// TestDrops makes each drop counter rise to 1, and no other.
func TestDrops(t *testing.T) {
	r := newRealm(t)
	alice := r.new(t, "alice")
	bob := r.identity(t, "bob")
	carol := r.new(t, "carol")
	hello := []byte("hello")
	shared := r.session(t, bob)

	for _, c := range []struct {
		drop  string
		alone bool // changes what the others need
		run   func(t *testing.T, b *inner)
	}{
		{"malformed", false, func(t *testing.T, b *inner) { b.feed([]byte{wire.Version, 0}, false) }},
		{"malformed", false, func(t *testing.T, b *inner) { b.feed(alice.to(t, b, 0x04, hello, true), false) }},
		{"malformed", false, func(t *testing.T, b *inner) { b.feed(alice.toAll(t, topicChallenge, hello), true) }},
		{"malformed", false, func(t *testing.T, b *inner) { b.feed(alice.to(t, b, TopicSignal, hello, true), true) }},
		{"malformed", false, func(t *testing.T, b *inner) { b.feed(alice.toAll(t, TopicHint, hello), false) }},
		{"malformed", false, func(t *testing.T, b *inner) { b.feed(alice.to(t, b, topicChallenge, hello, true), false) }},
		{"oversized", false, func(t *testing.T, b *inner) { b.feed(make([]byte, wire.MaxControl+1), false) }},
		{"unknown generation", false, func(t *testing.T, b *inner) {
			msg := alice.to(t, b, TopicSignal, hello, true)
			msg[4]++
			b.feed(msg, false)
		}},
		{"forged", false, func(t *testing.T, b *inner) {
			msg := alice.to(t, b, TopicSignal, hello, true)
			msg[len(msg)-1]++
			b.feed(msg, false)
		}},
		{"forged", false, func(t *testing.T, b *inner) { // a revocation list that the authority did not sign
			b.feed(alice.toAll(t, TopicRevocation, hello), true)
		}},
		{"misdirected", false, func(t *testing.T, b *inner) { b.feed(alice.to(t, carol, TopicSignal, hello, true), false) }},
		{"replayed", true, func(t *testing.T, b *inner) {
			msg := alice.to(t, b, TopicSignal, hello, true)
			b.feed(msg, false)
			b.feed(msg, false)
		}},
		{"replayed", true, func(t *testing.T, b *inner) { // of two messages to all the newer came first
			b.Learn(alice.sess.Record())
			older, newer := alice.toAll(t, TopicHint, hello), alice.toAll(t, TopicHint, hello)
			b.feed(newer, true)
			b.feed(older, true)
		}},
		{"wrong session", true, func(t *testing.T, b *inner) {
			b.feed(alice.to(t, r.session(t, bob), TopicSignal, hello, true), false)
		}},
		{"unknown session", true, func(t *testing.T, b *inner) {
			b.feed(alice.to(t, b, TopicSignal, hello, true), false)
			again := r.session(t, alice.sess.Identity())
			for range maxHeld + 1 {
				b.feed(again.to(t, b, TopicSignal, hello, true), false)
			}
		}},
		{"unknown session", true, func(t *testing.T, b *inner) { // to all, while the old session lives
			b.feed(alice.to(t, b, TopicSignal, hello, true), false)
			b.feed(r.session(t, alice.sess.Identity()).toAll(t, TopicHint, hello), true)
		}},
		{"unknown sender", true, func(t *testing.T, b *inner) { b.feed(alice.to(t, b, TopicSignal, hello, false), false) }},
		{"unknown sender", true, func(t *testing.T, b *inner) {
			b.offline()
			b.feed(alice.toAll(t, TopicHint, hello), true)
		}},
		{"unknown epoch", true, func(t *testing.T, b *inner) {
			msg := alice.to(t, b, TopicSignal, hello, true)
			for d := range 2 {
				if _, err := b.sess.Advance(time.Now().Add(time.Duration(d+1) * 24 * time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			b.feed(msg, false)
		}},
		{"not a member", true, func(t *testing.T, b *inner) {
			b.opt.Allow = func(own, peer *identity.Certificate) bool { return peer.Name != "alice" || own.Name != "bob" }
			b.feed(alice.to(t, b, TopicSignal, hello, true), false)
		}},
		{"not a member", true, func(t *testing.T, b *inner) {
			dave := r.new(t, "dave")
			list, err := r.authority.Revoke("dave")
			if err != nil {
				t.Fatal(err)
			}
			b.verifier.Apply(list)
			b.feed(dave.to(t, b, TopicSignal, hello, true), false)
		}},
	} {
		t.Run(c.drop, func(t *testing.T) {
			b := shared
			if c.alone {
				b = r.session(t, bob)
			}
			before := b.count.Snapshot().Drops
			c.run(t, b)
			for name, n := range b.count.Snapshot().Drops {
				want := uint64(0)
				if name == c.drop {
					want = 1
				}
				if n -= before[name]; n != want {
					t.Errorf("%s rose by %d, want %d", name, n, want)
				}
			}
		})
	}
}

// TestDropsSenderTooFast: what one sender sends while its messages are not taken is bounded.
func TestDropsSenderTooFast(t *testing.T) {
	r := newRealm(t)
	alice, b := r.new(t, "alice"), r.new(t, "bob")
	release, called := make(chan struct{}), make(chan struct{}, 1)
	b.handler = func(Message) {
		called <- struct{}{}
		<-release
	}
	body := make([]byte, 60000)
	b.receive(alice.to(t, b, TopicData, body, true), false)
	<-called
	sent := 0
	for b.drops() == "" && sent < 1000 {
		b.receive(alice.to(t, b, TopicData, body, false), false)
		sent++
	}
	if n := b.count.Snapshot(); n.Drops["sender too fast"] != 1 || n.Dropped() != 1 {
		t.Errorf("drops %q after %d messages", b.drops(), sent)
	}
	if held := sent * (len(body) + wire.ControlDirectOverhead); held < laneBytes || held > laneBytes+2*wire.MaxControl {
		t.Errorf("%d bytes were held, the limit is %d", held, laneBytes)
	}
	close(release)
	for range sent - 1 {
		<-called
	}
	b.settle()
	b.lanes.mu.Lock()
	defer b.lanes.mu.Unlock()
	if b.lanes.bytes != 0 {
		t.Errorf("%d bytes are booked for nothing", b.lanes.bytes)
	}
}

// TestDropsSlowConsumer: what the fabric loses before it reaches receive counts as well.
func TestDropsSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(t)
		m := NewMemory(MemoryOptions{Pending: 1})
		defer m.Stop()
		id := r.identity(t, "bob")
		s, err := identity.NewSession(id, identity.SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		set := new(stats.Set)
		c := New(m, s, identity.NewVerifier(id, nil), Options{Stats: set}).(*channel)
		defer c.Close()
		if err := c.Start(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		subject := c.keys.Load().current.toSubject(c.id)
		m.SetRules(Rule{Subject: subject, Delay: time.Hour}) // one is on its way, one waits, one is lost
		conn, err := m.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := conn.Publish(t.Context(), subject, []byte("x")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		conn.Close()
		time.Sleep(2 * lossesEvery)
		if n := c.count.Snapshot(); n.Drops["slow consumer"] != 1 || n.Dropped() != 1 {
			t.Errorf("drops: %q", c.drops())
		}
	})
}

// TestEchoIsIgnored: what an anchor says to all comes back to it and is not counted.
func TestEchoIsIgnored(t *testing.T) {
	alice := newRealm(t).new(t, "alice")
	alice.feed(alice.toAll(t, TopicHint, []byte("x")), true)
	if s := alice.count.Snapshot(); s.In != 0 || s.Dropped() != 0 {
		t.Errorf("%d in, %d dropped", s.In, s.Dropped())
	}
}

// TestBodiesAreTheReceivers: a handler may keep and change what it got.
func TestBodiesAreTheReceivers(t *testing.T) {
	r := newRealm(t)
	alice, b := r.new(t, "alice"), r.new(t, "bob")
	b.feed(alice.to(t, b, TopicSignal, []byte("one"), true), false)
	b.feed(alice.to(t, b, TopicSignal, []byte("two"), false), false)
	b.feed(alice.toAll(t, TopicHint, []byte("three")), true)
	for _, want := range []string{"one", "two", "three"} {
		m := <-b.got
		if !bytes.Equal(m.Body, []byte(want)) {
			t.Fatalf("got %q, want %q", m.Body, want)
		}
		for i := range m.Body {
			m.Body[i] = 0
		}
		_ = append(m.Body, "longer"...)
	}
	if d := b.drops(); d != "" {
		t.Error(d)
	}
}
