package controltest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

// Channel is the conformance suite for Channels over a kind of Master. The short form leaves out
// what does not depend on the fabric; n is how many members there are where there are many.
func Channel(t *testing.T, start func(t testing.TB) Server, n int, short bool) {
	for _, c := range []struct {
		name  string
		run   func(*testing.T, Server)
		short bool
	}{
		{"messages", channelMessages, true},
		{"look-up", channelLookup, true},
		{"presence", channelPresence, false},
		{"restarted anchor", channelRestartedAnchor, false},
		{"identity in use", channelInUse, false},
		{"dead predecessor", channelPredecessor, false},
		{"revocation", channelRevocation, false},
		{"two realms", channelRealms, false},
		{"Master away", channelAway, true},
		{"empty Master", channelEmpty, true},
		{"many members", func(t *testing.T, s Server) { channelMany(t, s, n) }, false},
	} {
		if c.short || !short {
			t.Run(c.name, func(t *testing.T) { c.run(t, start(t)) })
		}
	}
}

func channelMessages(t *testing.T, s Server) {
	r := NewRealm(t)
	a, b, c := r.Join(t, s.Fabric("a"), "a"), r.Join(t, s.Fabric("b"), "b"), r.Join(t, s.Fabric("c"), "c")
	for i, size := range []int{0, 1, 1000, 30000, a.MaxBody()} {
		body := bytes.Repeat([]byte{byte(i)}, size)
		a.MustSend(t, b.ID(), control.TopicData, body)
		m := b.Receive(t)
		if m.From.ID != a.ID() || m.Session != a.Session.Nonce() || m.Topic != control.TopicData || m.Broadcast || !bytes.Equal(m.Body, body) {
			t.Fatalf("size %d: got %d bytes on topic %d from %v", size, len(m.Body), m.Topic, m.From)
		}
		b.MustSend(t, a.ID(), control.TopicSignal, body)
		if m := a.Receive(t); m.From.ID != b.ID() || !bytes.Equal(m.Body, body) {
			t.Fatalf("size %d back: got %d bytes from %v", size, len(m.Body), m.From)
		}
	}
	if err := a.Send(Context(t), b.ID(), control.TopicData, make([]byte, a.MaxBody()+1)); !errors.Is(err, control.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := a.Broadcast(Context(t), control.TopicHint, make([]byte, a.MaxBody()+1)); !errors.Is(err, control.ErrTooLarge) {
		t.Errorf("too large to all: %v", err)
	}
	for i := range 20 {
		a.MustSend(t, b.ID(), control.TopicSignal, []byte{byte(i)})
	}
	for i := range 20 {
		if m := b.Receive(t); m.Body[0] != byte(i) {
			t.Fatalf("message %d came as %d", m.Body[0], i)
		}
	}
	if err := a.Broadcast(Context(t), control.TopicHint, []byte("all")); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Member{b, c} {
		if got := m.Receive(t); !got.Broadcast || got.From.ID != a.ID() || string(got.Body) != "all" {
			t.Fatalf("broadcast: %q", got.Body)
		}
	}
	if a.Received() != 0 {
		t.Error("a broadcast came back to its sender")
	}
	if err := a.Send(Context(t), a.ID(), control.TopicSignal, nil); err == nil {
		t.Error("sent to itself")
	}
	for _, m := range []*Member{a, b, c} {
		if d := m.Drops(); len(d) != 0 {
			t.Errorf("%v: drops %v", m.Identity, d)
		}
	}
}

func channelLookup(t *testing.T, s Server) {
	r := NewRealm(t)
	v4 := netip.MustParseAddr("10.1.2.3")
	b := NewMember(t, s.Fabric("b"), r.Issue(t, identity.IssueOptions{Name: "bob", IPv4: v4}), control.Options{})
	b.MustStart(t)
	a := r.Join(t, s.Fabric("a"), "alice")
	ctx := Context(t)
	rec := b.Session.Record()
	keys := []control.Key{
		{ID: b.ID()}, {Tag: rec.Current.Tag}, {Tag: rec.Previous.Tag}, {Name: "bob"}, {Addr: v4},
		{Addr: netip.AddrFrom16(v4.As16())}, {Addr: rec.Certificate.IPv6},
	}
	for i, k := range keys {
		if _, ok := a.Cached(k); ok != (i > 0) {
			t.Errorf("%v cached: %v", k, ok)
		}
		for _, fresh := range []bool{true, false} {
			got, err := a.Find(t, k, fresh)
			if err != nil || got.ID() != b.ID() {
				t.Fatalf("look up %v: %v", k, err)
			}
		}
	}
	unknown := []control.Key{{Name: "nobody"}, {ID: identity.ID{1}}, {Tag: identity.Tag{1}}, {Addr: netip.MustParseAddr("10.9.9.9")}}
	for _, k := range unknown {
		if _, err := a.Find(t, k, false); !errors.Is(err, control.ErrUnknown) || errors.Is(err, control.ErrNotReady) {
			t.Errorf("look up %v: %v", k, err)
		}
	}
	for _, k := range []control.Key{{}, {Name: "bob", ID: b.ID()}} {
		if _, err := a.Lookup(ctx, k, false); err == nil || errors.Is(err, control.ErrUnknown) {
			t.Errorf("look up %v: %v", k, err)
		}
	}
	if err := a.Send(ctx, identity.ID{1}, control.TopicSignal, nil); !errors.Is(err, control.ErrUnknown) {
		t.Errorf("send to nobody: %v", err)
	}
}

func channelPresence(t *testing.T, s Server) {
	r := NewRealm(t)
	a, b := r.Join(t, s.Fabric("a"), "a"), r.Join(t, s.Fabric("b"), "b")
	ctx := Context(t)
	if ok, err := a.Present(ctx, b.ID()); !ok || err != nil {
		t.Fatalf("b is there: %v, %v", ok, err)
	}
	if ok, err := a.Present(ctx, identity.ID{1}); ok || err != nil {
		t.Fatalf("nobody is there: %v, %v", ok, err)
	}
}

func channelRestartedAnchor(t *testing.T, s Server) {
	r := NewRealm(t)
	a, b := r.Join(t, s.Fabric("a"), "a"), r.Join(t, s.Fabric("b"), "b")
	a.MustSend(t, b.ID(), control.TopicSignal, []byte("one"))
	b.Receive(t)
	b.MustSend(t, a.ID(), control.TopicSignal, []byte("two"))
	a.Receive(t)
	b.Close() // a has heard of it within 10 s: its next session has to answer a challenge

	again := NewMember(t, s.Fabric("b2"), b.Identity, control.Options{})
	again.MustStart(t)
	again.MustSend(t, a.ID(), control.TopicSignal, []byte("three"))
	if m := a.Receive(t); string(m.Body) != "three" || m.Session != again.Session.Nonce() {
		t.Fatalf("got %q", m.Body)
	}
	if a.Note("challenges") != 1 {
		t.Errorf("%d challenges", a.Note("challenges"))
	}
	a.MustSend(t, again.ID(), control.TopicSignal, []byte("four"))
	if m := again.Receive(t); string(m.Body) != "four" {
		t.Fatalf("got %q", m.Body)
	}
	again.Close()

	// The other way round: the one that lives on sends first, to the session that has gone.
	third := NewMember(t, s.Fabric("b3"), b.Identity, control.Options{})
	third.MustStart(t)
	m := a.SendUntil(t, third, control.TopicSignal, []byte("five"))
	if m.Session != a.Session.Nonce() {
		t.Fatal("wrong session")
	}
	if third.Note("corrections") == 0 {
		t.Error("the new session corrected nothing")
	}
}

func channelInUse(t *testing.T, s Server) {
	r := NewRealm(t)
	a, b := r.Join(t, s.Fabric("a"), "a"), r.Join(t, s.Fabric("b"), "b")
	a.MustSend(t, b.ID(), control.TopicSignal, []byte("one"))
	b.Receive(t)
	twin := NewMember(t, s.Fabric("b2"), b.Identity, control.Options{})
	twin.MustStart(t)
	select {
	case <-b.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("both sessions live")
	}
	if err := b.Err(); !errors.Is(err, control.ErrIdentityInUse) {
		t.Fatal(err)
	}
	if err := b.Send(Context(t), a.ID(), control.TopicSignal, nil); !errors.Is(err, control.ErrIdentityInUse) {
		t.Errorf("send after the end: %v", err)
	}
	a.SendUntil(t, twin, control.TopicSignal, []byte("two"))
	select {
	case <-twin.Done():
		t.Fatal(twin.Err())
	default:
	}
}

func channelPredecessor(t *testing.T, s Server) {
	r := NewRealm(t)
	a, b := r.Join(t, s.Fabric("a"), "a"), r.Join(t, s.Fabric("b"), "b")
	b.Close()
	again := NewMember(t, s.Fabric("b2"), b.Identity, control.Options{})
	again.MustStart(t)
	got, err := a.Find(t, control.Key{Name: "b"}, true)
	if err != nil || got.Session != again.Session.Nonce() {
		t.Fatalf("look-up after a restart: %v", err)
	}
	if !got.NewerThan(b.Session.Record()) {
		t.Error("the new session's record is not newer")
	}
}

func channelRevocation(t *testing.T, s Server) {
	r := NewRealm(t)
	revoked := make(chan struct{}, 1)
	a := NewMember(t, s.Fabric("a"), r.Issue(t, identity.IssueOptions{Name: "a"}), control.Options{
		OnRevoked: func() {
			select {
			case revoked <- struct{}{}:
			default:
			}
		},
	})
	a.MustStart(t)
	b, c := r.Join(t, s.Fabric("b"), "b"), r.Join(t, s.Fabric("c"), "c")
	a.SendUntil(t, c, control.TopicSignal, []byte("before"))
	list, err := r.Authority.Revoke("c")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Revoke(Context(t), list); err != nil {
		t.Fatal(err)
	}
	if err := b.Revoke(Context(t), list); err != nil {
		t.Fatalf("the same list again: %v", err)
	}
	<-revoked
	if err := a.Verifier.Check(c.Identity.Certificate()); !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("a holds c's certificate for good: %v", err)
	}
	if _, ok := a.Cached(control.Key{Name: "c"}); ok {
		t.Error("a has c's record cached")
	}
	if err := a.Send(Context(t), c.ID(), control.TopicSignal, nil); !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("send to c: %v", err)
	}
	<-c.Done()
	if err := c.Err(); !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("c ended with %v", err)
	}
	again := NewMember(t, s.Fabric("c"), c.Identity, control.Options{})
	if err := again.Start(Context(t), nil); !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("c started again: %v", err)
	}
	// Who was not there reads the list at the start.
	d := r.Join(t, s.Fabric("d"), "d")
	if l := d.Verifier.Current(); l == nil || l.Number != list.Number {
		t.Error("d has no list")
	}
}

func channelRealms(t *testing.T, s Server) {
	one, two := NewRealm(t), NewRealm(t)
	a, b := one.Join(t, s.Fabric("a"), "same"), two.Join(t, s.Fabric("b"), "same")
	x := one.Join(t, s.Fabric("x"), "x")
	got, err := x.Find(t, control.Key{Name: "same"}, false)
	if err != nil || got.ID() != a.ID() {
		t.Fatalf("look-up in realm one: %v", err)
	}
	if _, err := x.Find(t, control.Key{ID: b.ID()}, false); !errors.Is(err, control.ErrUnknown) {
		t.Errorf("an anchor of another realm: %v", err)
	}
	if err := b.Broadcast(Context(t), control.TopicHint, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := x.Broadcast(Context(t), control.TopicHint, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if m := a.Receive(t); string(m.Body) != "one" {
		t.Fatalf("got %q", m.Body)
	}
}

// events waits for an event of a kind.
func event(t *testing.T, m *Member, connected bool) control.Event {
	t.Helper()
	end := time.After(20 * time.Second)
	for {
		select {
		case e := <-m.Events():
			if e.Connected == connected {
				return e
			}
		case <-end:
			t.Fatalf("no event with connected=%v", connected)
		}
	}
}

func channelAway(t *testing.T, s Server) {
	r := NewRealm(t)
	a, b := r.Join(t, s.Fabric("a"), "a"), r.Join(t, s.Fabric("b"), "b")
	a.SendUntil(t, b, control.TopicSignal, []byte("before"))
	event(t, a, true)
	s.Kill()
	if e := event(t, a, false); e.Err == nil {
		t.Error("no reason")
	}
	ctx := Context(t)
	if a.Connected() {
		t.Error("connected to a dead Master")
	}
	if _, err := a.Lookup(ctx, control.Key{Name: "nobody"}, false); !errors.Is(err, control.ErrNotReady) || errors.Is(err, control.ErrUnknown) {
		t.Errorf("look-up: %v", err)
	}
	if got, err := a.Lookup(ctx, control.Key{Name: "b"}, false); err != nil || got.ID() != b.ID() {
		t.Errorf("look-up of who is known: %v", err)
	}
	for what, err := range map[string]error{
		"send": a.Send(ctx, b.ID(), control.TopicSignal, []byte("lost")), "announce": a.Announce(ctx),
		"broadcast": a.Broadcast(ctx, control.TopicHint, nil),
	} {
		if !errors.Is(err, control.ErrNotReady) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.Restart(false)
	event(t, a, true)
	a.SendUntil(t, b, control.TopicSignal, []byte("after"))
	if b.Received() != 0 {
		t.Error("what was sent while the Master was away came late")
	}
}

func channelEmpty(t *testing.T, s Server) {
	r := NewRealm(t)
	a, b := r.Join(t, s.Fabric("a"), "a"), r.Join(t, s.Fabric("b"), "b")
	list, err := r.Authority.Revoke(r.Issue(t, identity.IssueOptions{Name: "gone"}).Certificate().Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Revoke(Context(t), list); err != nil {
		t.Fatal(err)
	}
	a.SendUntil(t, b, control.TopicSignal, []byte("before"))
	s.Kill()
	time.Sleep(300 * time.Millisecond) // some attempts to connect fail
	began := time.Now()
	s.Restart(true)
	c := r.Join(t, s.Fabric("c"), "c")
	if c.FreshSince().IsZero() {
		t.Error("c does not know that the directory is new")
	}
	Eventually(t, 20*time.Second, "c finds a and b", func() bool {
		_, errA := c.Lookup(Context(t), control.Key{Name: "a"}, false)
		_, errB := c.Lookup(Context(t), control.Key{Name: "b"}, false)
		return errA == nil && errB == nil
	})
	t.Logf("a third member found the others %v after the Master was back", time.Since(began).Round(time.Millisecond))
	c.SendUntil(t, a, control.TopicSignal, []byte("hello"))
	b.SendUntil(t, c, control.TopicSignal, []byte("hello"))
	Eventually(t, 20*time.Second, "the revocation list is there again", func() bool {
		d := r.New(t, s.Fabric("d"), fmt.Sprint("d", time.Now().UnixNano()))
		defer d.Close()
		d.MustStart(t)
		return d.Verifier.Current() != nil
	})
}

func channelMany(t *testing.T, s Server, n int) {
	r := NewRealm(t)
	members := make([]*Member, n)
	for i := range members {
		members[i] = r.New(t, s.Fabric(fmt.Sprint(i)), fmt.Sprintf("m%d", i))
	}
	began := time.Now()
	each(members, func(_ int, m *Member) {
		if err := m.Start(Context(t), m.Handle); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d members started in %v", n, time.Since(began).Round(time.Millisecond))
	if t.Failed() {
		return
	}
	steps := []int{1, 3, n / 2}
	each(members, func(i int, m *Member) {
		for _, d := range steps {
			got, err := m.Find(t, control.Key{Name: fmt.Sprintf("m%d", (i+d)%n)}, false)
			if err == nil {
				err = m.Send(Context(t), got.ID(), control.TopicSignal, []byte{byte(i)})
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	for i, m := range members {
		from := make(map[byte]bool)
		for range steps {
			from[m.Receive(t).Body[0]] = true
		}
		for _, d := range steps {
			if !from[byte((i-d+n)%n)] {
				t.Errorf("member %d heard nothing from %d before it", i, d)
			}
		}
		if d := m.Drops(); len(d) != 0 {
			t.Errorf("member %d: drops %v", i, d)
		}
	}
	each(members, func(_ int, m *Member) { m.Close() })
	if err := members[0].Err(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// each calls f for all members, eight at a time.
func each(members []*Member, f func(int, *Member)) {
	var wg sync.WaitGroup
	turn := make(chan struct{}, 8)
	for i, m := range members {
		turn <- struct{}{}
		wg.Go(func() {
			f(i, m)
			<-turn
		})
	}
	wg.Wait()
}
