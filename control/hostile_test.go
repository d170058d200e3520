package control

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// TestFlood: messages that are no good leave nothing behind, whoever makes them.
func TestFlood(t *testing.T) {
	r := newRealm(t)
	bob, mallory := r.new(t, "bob"), r.new(t, "mallory")
	bob.offline()
	n := 6000
	if *Long {
		n = 500000
	}
	k := mallory.keys.Load().current
	flood := func(n int) {
		for i := range n {
			msg := make([]byte, 4000)
			switch i % 3 {
			case 0: // by who does not know the realm secret: a new session each time
				h := wire.ControlHeader{Generation: k.generation, Session: identity.Nonce{byte(i), byte(i >> 8), byte(i >> 16), 1}}
				copy(msg, h.Append(nil))
			case 1: // by a member, in the name of ever new anchors
				d := wire.ControlDirect{
					Topic: uint8(TopicSignal), Sender: [32]byte{byte(i), byte(i >> 8), byte(i >> 16), 1}, Receiver: bob.id,
					ReceiverSession: bob.sess.Nonce(), Ciphertext: make([]byte, wire.CiphertextSize), Box: make([]byte, 16),
				}
				h, header := mallory.header(k)
				sealed, err := mallory.seal(k, header, append(d.AppendUnsigned(nil), make([]byte, wire.SignatureSize)...), h.Counter, "")
				if err != nil {
					t.Fatal(err)
				}
				msg = sealed
			}
			bob.receive(msg, false)
			if i%100 == 0 {
				bob.settle()
			}
		}
		bob.settle()
	}
	flood(n / 10)
	before := heapInUse()
	flood(n)
	after := heapInUse()
	t.Logf("heap before %d KiB, after %d more messages %d KiB", before>>10, n, after>>10)
	if after > before+4<<20 {
		t.Errorf("the heap grew from %d to %d KiB", before>>10, after>>10)
	}
	s := bob.count.Snapshot()
	if s.In != s.Dropped() || s.Drops["forged"] == 0 || s.Drops["malformed"] == 0 || s.Drops["unknown sender"] == 0 {
		t.Errorf("%d in, drops %v", s.In, bob.drops())
	}
	if n := len(bob.peers.peers.items); n > 0 {
		t.Errorf("%d anchors are remembered that never said anything authentic", n)
	}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSendersAreBounded: so are the senders whose messages wait.
func TestSendersAreBounded(t *testing.T) {
	r := newRealm(t)
	bob := r.new(t, "bob")
	for i := range maxLanes {
		id := identity.ID{byte(i), byte(i >> 8), 1}
		bob.lanes.open[id] = nil
	}
	bob.feedOne(r.new(t, "alice").to(t, bob, TopicSignal, nil, true))
	if d := bob.drops(); d != "sender too fast 1" {
		t.Errorf("drops %q", d)
	}
	clear(bob.lanes.open)
}

// feedOne is feed that does not wait.
func (c *inner) feedOne(msg []byte) { c.receive(msg, false) }

// TestOldRecord: a Master that shows an anchor's old record harms nobody who knows a newer one.
func TestOldRecord(t *testing.T) { synctest.Test(t, oldRecord) }

func oldRecord(t *testing.T) {
	r := newRealm(t)
	bob := r.new(t, "bob")
	id := r.identity(t, "alice")
	older := r.session(t, id)
	time.Sleep(2 * time.Millisecond) // the counter begins with the clock
	newer := r.session(t, id)
	ctx := t.Context()
	for _, c := range []*inner{newer, older} {
		c.link.Store(newLink(bob.rec))
		if err := c.publish(ctx, c.link.Load(), c.generations(), c.sess.Record()); err != nil {
			t.Fatal(err)
		}
		if c == newer {
			if _, err := bob.Lookup(ctx, Key{Name: "alice"}, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := bob.Lookup(ctx, Key{Name: "alice"}, true)
	if err != nil || got.Session != newer.sess.Nonce() {
		t.Errorf("the old session is believed: %v", err)
	}
	if n := bob.count.Snapshot().Notes["challenges"]; n != 1 {
		t.Errorf("%d challenges", n)
	}
	if _, stale := bob.peers.cached(Key{ID: id.ID()}); stale {
		t.Error("the record is stale for ever")
	}
	// Within a session a Master cannot go back at all.
	first := newer.sess.Record()
	if _, err := newer.sess.Advance(time.Now().Add(24 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	bob.Learn(newer.sess.Record())
	newer.link.Store(newLink(bob.rec))
	if err := newer.publish(ctx, newer.link.Load(), newer.generations(), first); err != nil {
		t.Fatal(err)
	}
	if got, err := bob.Lookup(ctx, Key{ID: id.ID()}, true); err != nil || got != newer.sess.Record() {
		t.Errorf("an older record of the session is believed: %v", err)
	}
}

// TestHighestSerial: of two anchors with valid certificates for one name the later certificate wins,
// until it is revoked.
func TestHighestSerial(t *testing.T) {
	r := newRealm(t)
	bob := r.new(t, "bob")
	now := r.clock()
	short, err := r.authority.Issue(identity.IssueOptions{Name: "web", NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	r.authority.Clock = func() time.Time { return now.Add(time.Hour) } // to the authority it is out of date
	long := r.identity(t, "web")
	ctx := t.Context()
	for _, id := range []*identity.Identity{long, short} {
		c := r.session(t, id)
		c.link.Store(newLink(bob.rec))
		if err := c.publish(ctx, c.link.Load(), c.generations(), c.sess.Record()); err != nil {
			t.Fatal(err)
		}
	}
	lookup := func(want *identity.Identity) {
		t.Helper()
		for _, fresh := range []bool{true, false} {
			got, err := bob.Lookup(ctx, Key{Name: "web"}, fresh)
			if err != nil || got.ID() != want.ID() {
				t.Fatalf("fresh=%v: %v", fresh, err)
			}
		}
	}
	lookup(long)
	if _, err := bob.Lookup(ctx, Key{ID: short.ID()}, false); err != nil {
		t.Fatal(err)
	}
	lookup(long) // now that both are cached
	list, err := r.authority.Revoke("web")
	if err != nil {
		t.Fatal(err)
	}
	bob.takeList(list)
	if _, err := bob.Lookup(ctx, Key{ID: long.ID()}, false); !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("look-up of a revoked anchor: %v", err)
	}
}

// TestCrowdedIndex: at most 16 entries under one key are looked at.
func TestCrowdedIndex(t *testing.T) {
	r := newRealm(t)
	bob, alice := r.new(t, "bob"), r.new(t, "alice")
	ctx := t.Context()
	alice.link.Store(newLink(bob.rec))
	l, k := alice.link.Load(), alice.keys.Load().current
	if err := alice.publish(ctx, l, alice.generations(), alice.sess.Record()); err != nil {
		t.Fatal(err)
	}
	prefix := k.prefix(kindName, []byte("alice"))
	for i := range indexLimit - 1 {
		entry := wire.AppendControlIndex(nil, identity.ID{byte(i)})
		if err := alice.put(ctx, l, k, BucketRecords, fmt.Sprintf("%s.%d", prefix, i), prefix, entry); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bob.Lookup(ctx, Key{Name: "alice"}, false); err != nil {
		t.Errorf("among %d: %v", indexLimit, err)
	}
	ids, err := bob.readIndex(ctx, bob.link.Load(), k, prefix)
	if err != nil || len(ids) != indexLimit {
		t.Errorf("%d entries, %v", len(ids), err)
	}
	for i := range 10 {
		bob.rec.values[kvSubject(BucketRecords, fmt.Sprintf("%s.0%d", prefix, i))] = []byte("garbage")
	}
	if ids, err = bob.readIndex(ctx, bob.link.Load(), k, prefix); err != nil || len(ids) > indexLimit {
		t.Errorf("%d entries, %v", len(ids), err)
	}
}

// TestMasterFails: whatever the fabric answers but 'no such key' makes no name unknown.
func TestMasterFails(t *testing.T) {
	r := newRealm(t)
	bob := r.new(t, "bob")
	bob.rec.fail = errors.New("the stream has gone")
	for _, key := range []Key{{Name: "alice"}, {ID: identity.ID{1}}} {
		_, err := bob.Lookup(t.Context(), key, false)
		if !errors.Is(err, ErrNotReady) || errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "the stream has gone") {
			t.Errorf("%v: %v", key, err)
		}
	}
	if _, err := bob.Present(t.Context(), identity.ID{1}); !errors.Is(err, ErrNotReady) {
		t.Errorf("presence: %v", err)
	}
	if err := bob.Announce(t.Context()); !errors.Is(err, ErrNotReady) {
		t.Errorf("announce: %v", err)
	}
}

// TestForeignRecord: a record of another realm, carried by a message, is no way in.
func TestForeignRecord(t *testing.T) {
	r, other := newRealm(t), newRealm(t)
	bob, alice, eve := r.new(t, "bob"), r.new(t, "alice"), other.new(t, "eve")
	k := alice.keys.Load().current // eve has stolen the realm secret
	eve.keys.Store(&keyring{current: k})
	eve.feedSecret(t, bob, k)
	if d := bob.drops(); d != "forged 1" {
		t.Errorf("drops %q", d)
	}
}

// feedSecret sends bob a message under keys that are not c's realm's.
func (c *inner) feedSecret(t *testing.T, bob *inner, k *realmKeys) {
	p, err := c.newPair(bob.sess.Record())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.sendDirect(t.Context(), newLink(c.rec), k, bob.sess.Record(), p, TopicSignal, nil, true); err != nil {
		t.Fatal(err)
	}
	bob.feed(c.rec.last(), false)
}

// TestStolenBody: a member cannot send another's sealed body in its own name.
func TestStolenBody(t *testing.T) {
	r := newRealm(t)
	bob, alice, mallory := r.new(t, "bob"), r.new(t, "alice"), r.new(t, "mallory")
	msg := alice.to(t, bob, TopicSignal, []byte("for bob"), false)
	h, sealed, err := wire.ParseControlHeader(msg)
	if err != nil {
		t.Fatal(err)
	}
	k := alice.keys.Load().current
	aead, err := k.aead(h.Session)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, counterNonce(h.Counter), sealed, msg[:wire.ControlHeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(plain), "for bob") {
		t.Error("any member can read the body")
	}
	d, _, err := wire.ParseControlDirect(plain)
	if err != nil {
		t.Fatal(err)
	}
	d.Sender, d.Record = mallory.id, mallory.sess.Record().Raw
	mh, header := mallory.header(k)
	if err := mallory.signAndPublish(t.Context(), newLink(mallory.rec), k, "x", mh, header, d.AppendUnsigned(nil)); err != nil {
		t.Fatal(err)
	}
	bob.feed(mallory.rec.last(), false)
	if d := bob.drops(); d != "forged 1" || len(bob.got) != 0 {
		t.Errorf("drops %q, %d delivered", d, len(bob.got))
	}
}
