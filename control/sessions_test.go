package control_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/controltest"
)

// world is a realm over a Memory in virtual time.
type world struct {
	*testing.T
	mem   *control.Memory
	realm *controltest.Realm
}

// inWorld runs f in virtual time.
func inWorld(t *testing.T, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t, control.NewMemory(control.MemoryOptions{Seed: 1}), controltest.NewRealm(t)}
		defer w.mem.Stop()
		f(w)
	})
}

// join starts a member by the side of its name. It is closed when the test ends.
func (w *world) join(name string) *controltest.Member {
	w.Helper()
	return w.start(name, w.realm.Issue(w, identity.IssueOptions{Name: name}))
}

// start starts a session of an identity by a side.
func (w *world) start(side string, id *identity.Identity) *controltest.Member {
	w.Helper()
	m := controltest.NewMember(w, w.mem.Side(side), id, control.Options{})
	if err := m.Start(w.Context(), m.Handle); err != nil {
		w.Fatal(err)
	}
	return m
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expect checks what waits at a member, in order, and takes it.
func (w *world) expect(m *controltest.Member, bodies ...string) {
	w.Helper()
	synctest.Wait()
	if n := m.Received(); n != len(bodies) {
		w.Fatalf("%v has %d messages, want %d; drops %v", m.Identity, n, len(bodies), m.Drops())
	}
	for _, want := range bodies {
		if got := m.Receive(w); string(got.Body) != want {
			w.Fatalf("%v got %q, want %q", m.Identity, got.Body, want)
		}
	}
}

func (w *world) send(from, to *controltest.Member, body string) {
	w.Helper()
	if err := from.Send(w.Context(), to.ID(), control.TopicSignal, []byte(body)); err != nil {
		w.Fatal(err)
	}
}

// TestSilence: a session that cannot be challenged waits until nothing came from the old one for 10 s.
func TestSilence(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		w.send(b, a, "old")
		w.expect(a, "old")
		b.Close()
		next := w.start("b", b.Identity)
		w.mem.SetRules(control.Rule{From: "a", Subject: "anchor.>", Drop: 1}) // no challenge arrives
		w.send(next, a, "held")
		w.expect(a)
		after(3 * time.Second)
		if d := a.Drops(); d["unknown session"] != 1 || a.Note("challenges") != 1 {
			w.Errorf("an unanswered challenge: drops %v", d)
		}
		after(4 * time.Second) // 7 s since the old one spoke
		w.send(next, a, "too early")
		w.expect(a)
		after(4 * time.Second) // 11 s; the challenge of the last message is over
		w.send(next, a, "in time")
		w.expect(a, "in time")
	})
}

// TestSilenceDuringChallenge: 10 s end while a challenge waits for its answer.
func TestSilenceDuringChallenge(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		w.send(b, a, "old")
		w.expect(a, "old")
		b.Close()
		next := w.start("b", b.Identity)
		w.mem.SetRules(control.Rule{From: "a", Subject: "anchor.>", Drop: 1})
		after(9 * time.Second)
		w.send(next, a, "one")
		w.send(next, a, "two")
		w.expect(a)
		after(3 * time.Second)
		w.expect(a, "one", "two")
		if d := a.Drops(); len(d) != 0 {
			w.Errorf("drops %v", d)
		}
	})
}

// TestHeldInOrder: what is held for a session under challenge comes before what follows, once.
func TestHeldInOrder(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		w.send(b, a, "old")
		w.expect(a, "old")
		b.Close()
		next := w.start("b", b.Identity)
		w.mem.SetRules(control.Rule{Subject: "anchor.>", Delay: 10 * time.Millisecond})
		for _, body := range []string{"1", "2", "3"} {
			w.send(next, a, body)
		}
		after(15 * time.Millisecond)
		w.expect(a) // the challenge is on its way
		w.send(next, a, "4")
		after(time.Second)
		w.expect(a, "1", "2", "3", "4")
		if d := a.Drops(); len(d) != 0 || a.Note("challenges") != 1 {
			w.Errorf("drops %v, %d challenges", d, a.Note("challenges"))
		}
	})
}

// TestCorrections: messages to a session that has gone are corrected, ten a second.
func TestCorrections(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		w.send(b, a, "old")
		w.send(a, b, "old")
		w.expect(a, "old")
		b.Close()
		next := w.start("b", b.Identity)
		w.mem.SetRules(control.Rule{From: "b", To: "a", Subject: "anchor.>", Drop: 1}) // no correction arrives
		for range 100 {
			w.send(a, next, "to the old session")
		}
		w.expect(next)
		if n := next.Note("corrections"); n != 10 || next.Drops()["wrong session"] != 100 {
			w.Errorf("%d corrections at once, drops %v", n, next.Drops())
		}
		after(time.Second)
		w.mem.SetRules()
		w.send(a, next, "to the old session")
		after(time.Second) // corrected, challenged and admitted
		w.send(a, next, "to the new one")
		w.expect(next, "to the new one")
	})
}

// TestDeadTwin: a newer record whose session does not live is replaced.
func TestDeadTwin(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		w.mem.SetRules(control.Rule{From: "b2", Subject: "anchor.>", Drop: 1}) // it does not answer
		twin := w.start("b2", b.Identity)
		w.mem.Partition("b2", control.PartitionSilent)
		w.mem.SetRules()
		after(10 * time.Second)
		select {
		case <-b.Done():
			w.Fatal(b.Err())
		default:
		}
		got, err := a.Lookup(w.Context(), control.Key{Name: "b"}, true)
		if err != nil || got.Session != b.Session.Nonce() {
			w.Errorf("the directory does not have the living session: %v", err)
		}
		// When it is back it finds that it was replaced.
		w.mem.Partition("b2", control.PartitionCut)
		w.mem.Partition("b2", control.PartitionNone)
		after(20 * time.Second)
		if err := twin.Err(); !errors.Is(err, control.ErrIdentityInUse) {
			w.Errorf("the replaced session ended with %v", err)
		}
		select {
		case <-b.Done():
			w.Fatal(b.Err())
		default:
		}
	})
}

// TestTwinsAtOnce: of two sessions that start at the same time exactly one stays.
func TestTwinsAtOnce(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		id := w.realm.Issue(w, identity.IssueOptions{Name: "b"})
		twins := []*controltest.Member{
			controltest.NewMember(w, w.mem.Side("b1"), id, control.Options{}),
			controltest.NewMember(w, w.mem.Side("b2"), id, control.Options{}),
		}
		started := make(chan error)
		for _, m := range twins {
			go func() { started <- m.Start(w.Context(), m.Handle) }()
		}
		for range twins {
			if err := <-started; err != nil && !errors.Is(err, control.ErrIdentityInUse) {
				w.Fatal(err)
			}
		}
		after(time.Minute)
		ended := 0
		for _, m := range twins {
			if err := m.Err(); err != nil {
				ended++
				if !errors.Is(err, control.ErrIdentityInUse) {
					w.Error(err)
				}
			}
		}
		if ended != 1 {
			w.Errorf("%d of two sessions ended", ended)
		}
	})
}

// TestTwinAfterOutage: a session that was cut off finds on its return that another one took over.
func TestTwinAfterOutage(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		b := w.join("b")
		w.mem.Partition("b", control.PartitionCut)
		twin := w.start("b2", b.Identity)
		w.mem.Partition("b", control.PartitionNone)
		after(20 * time.Second)
		if err := b.Err(); !errors.Is(err, control.ErrIdentityInUse) {
			w.Errorf("the old session: %v", err)
		}
		if err := twin.Err(); err != nil {
			w.Errorf("the new session: %v", err)
		}
	})
}

// TestOverwrittenRecord: whatever else is written in place of the own record is replaced.
func TestOverwrittenRecord(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		conn, err := w.mem.Side("x").Connect(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		defer conn.Close()
		for _, key := range w.mem.Keys(control.BucketRecords) {
			if err := conn.Put(w.Context(), control.BucketRecords, key, []byte("garbage")); err != nil {
				w.Fatal(err)
			}
		}
		after(30 * time.Second)
		if got, err := a.Lookup(w.Context(), control.Key{Name: "b"}, true); err != nil || got.Session != b.Session.Nonce() {
			w.Errorf("look-up after the directory was spoilt: %v", err)
		}
	})
}

// TestLearn: a record that came another way serves like one from the directory, under the session rule.
func TestLearn(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		first := b.Session.Record()
		if !a.Learn(first) || !a.Learn(first) {
			w.Error("the first record is refused")
		}
		if _, err := b.Session.Advance(time.Now().Add(24 * time.Hour)); err != nil {
			w.Fatal(err)
		}
		second := b.Session.Record()
		if !a.Learn(second) || a.Learn(first) {
			w.Error("an older record of a session replaces a newer one")
		}
		if a.Learn(a.Session.Record()) {
			w.Error("the own record is taken for news")
		}
		w.send(b, a, "x")
		w.expect(a, "x")
		b.Close()
		next := w.start("b", b.Identity)
		if a.Learn(next.Session.Record()) {
			w.Error("another session is believed at once")
		}
		after(time.Second) // it was challenged, and has answered
		if !a.Learn(next.Session.Record()) {
			w.Error("a session that answered is refused")
		}
		if got, ok := a.Cached(control.Key{Name: "b"}); !ok || got.Session != next.Session.Nonce() {
			w.Error("the old session's record is cached")
		}
	})
}

// TestPresenceEnds: an anchor that has gone is absent 90 s after it last said that it is there.
func TestPresenceEnds(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		present := func(want bool) {
			w.Helper()
			if got, err := a.Present(w.Context(), b.ID()); got != want || err != nil {
				w.Errorf("present: %v, %v", got, err)
			}
		}
		after(10 * time.Minute)
		present(true)
		b.Close()
		after(91 * time.Second)
		present(false)
		w.start("b", b.Identity)
		present(true)
	})
}

// TestEpochs: at an epoch change the tags of the day before yesterday lead nowhere any more, and who
// talks to the anchor learns its new keys.
func TestEpochs(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b := w.join("a"), w.join("b")
		w.send(a, b, "hello")
		w.send(b, a, "hello")
		w.expect(a, "hello")
		w.expect(b, "hello")
		tags := []identity.Tag{b.Session.Record().Previous.Tag, b.Session.Record().Current.Tag}
		for day := range 3 {
			before := len(w.mem.Keys(control.BucketRecords))
			if changed, err := b.Session.Advance(time.Now().Add(time.Duration(day+1) * 24 * time.Hour)); err != nil || !changed {
				w.Fatal(changed, err)
			}
			if err := b.Announce(w.Context()); err != nil {
				w.Fatal(err)
			}
			if n := len(w.mem.Keys(control.BucketRecords)); n != before {
				w.Errorf("%d keys in the directory, before %d", n, before)
			}
			after(time.Minute)
			tags = append(tags, b.Session.Record().Current.Tag)
		}
		c := w.join("c")
		for i, tag := range tags {
			_, err := c.Lookup(w.Context(), control.Key{Tag: tag}, false)
			if serves := i >= len(tags)-2; serves != (err == nil) || !serves && !errors.Is(err, control.ErrUnknown) {
				w.Errorf("tag %d of %d: %v", i, len(tags), err)
			}
		}
		w.send(a, b, "to an epoch that has gone") // corrected
		w.expect(b)
		if b.Drops()["unknown epoch"] != 1 {
			w.Errorf("drops %v", b.Drops())
		}
		w.send(a, b, "to this one")
		w.expect(b, "to this one")
	})
}

// TestRekey: those who have a new generation of the realm secret and those who have not talk on.
func TestRekey(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a, b, c := w.join("a"), w.join("b"), w.join("c")
		generation, _ := a.Identity.RealmSecret()
		gone := w.realm.Issue(w, identity.IssueOptions{Name: "gone"})
		list, err := w.realm.Authority.Revoke(gone.Certificate().Name)
		if err != nil {
			w.Fatal(err)
		}
		newer, secret := w.realm.Issue(w, identity.IssueOptions{Name: "d"}).RealmSecret()
		if newer != generation+1 {
			w.Fatalf("generation %d follows %d", newer, generation)
		}
		if err := a.Revoke(w.Context(), list); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		for _, m := range []*controltest.Member{a, b} {
			for range 2 {
				if err := m.Rekey(w.Context(), newer, secret); err != nil {
					w.Fatal(err)
				}
			}
			if err := m.Rekey(w.Context(), generation, [32]byte{}); err == nil {
				w.Error("an older generation is taken")
			}
		}
		w.send(a, b, "new to new")
		w.expect(b, "new to new")
		w.send(c, a, "old to new")
		w.expect(a, "old to new")
		w.send(b, c, "new to old")
		w.expect(c, "new to old")
		d := w.join("e") // the authority issues with the new secret
		w.send(d, a, "newest")
		w.expect(a, "newest")
	})
}

// TestOwnCertificateExpires: a Channel ends when its own certificate does.
func TestOwnCertificateExpires(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		b := w.start("b", w.realm.Issue(w, identity.IssueOptions{Name: "b", NotAfter: time.Now().Add(time.Hour)}))
		after(time.Hour)
		if err := b.Err(); err != nil {
			w.Fatal(err)
		}
		after(identity.ClockTolerance + time.Minute)
		if err := b.Err(); !errors.Is(err, identity.ErrExpired) {
			w.Error(err)
		}
		again := controltest.NewMember(w, w.mem.Side("b"), b.Identity, control.Options{})
		if err := again.Start(context.Background(), nil); !errors.Is(err, identity.ErrExpired) {
			w.Error(err)
		}
	})
}
