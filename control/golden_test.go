package control

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

// goldens is a realm of two, and everything that one of them gives the Master. It is the same in
// each run, to the byte.
type goldens struct {
	realm      *realm
	alice, bob *inner
	direct     []byte            // alice to bob, without a record
	broadcast  []byte            // alice to all
	entries    map[string][]byte // alice's entries of the directory, by $KV.BUCKET.KEY
}

func makeGoldens(t *testing.T) *goldens {
	cryptotest.SetGlobalRandom(t, 20260401)
	at := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	r := newRealm(t)
	r.clock = func() time.Time { return at }
	r.authority.Clock = r.clock
	g := &goldens{realm: r, alice: r.new(t, "alice"), bob: r.new(t, "bob")}
	g.direct = g.alice.to(t, g.bob, TopicSignal, []byte("an offer"), false)
	g.broadcast = g.alice.toAll(t, TopicHint, []byte("a hint"))

	l := g.alice.link.Load()
	// One at a time: publish writes the index in parallel, and counters would differ.
	k, rec := g.alice.keys.Load().current, g.alice.sess.Record()
	ctx := context.Background()
	key := k.recordKey(g.alice.id)
	if err := g.alice.put(ctx, l, k, BucketRecords, key, key, wire.AppendControlRecord(nil, rec.Raw)); err != nil {
		t.Fatal(err)
	}
	for _, key := range k.indexKeys(rec) {
		prefix, _, _ := strings.Cut(key, ".")
		if err := g.alice.put(ctx, l, k, BucketRecords, key, prefix, wire.AppendControlIndex(nil, g.alice.id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.alice.showPresence(ctx, l); err != nil {
		t.Fatal(err)
	}
	r.identity(t, "mallory")
	list, err := r.authority.Revoke("mallory")
	if err != nil {
		t.Fatal(err)
	}
	g.alice.verifier.Apply(list)
	if err := g.alice.publishList(ctx, l); err != nil {
		t.Fatal(err)
	}
	g.entries = maps.Clone(g.alice.rec.values)
	return g
}

// TestGolden: subjects, keys and every byte given to the Master are those of the protocol.
func TestGolden(t *testing.T) {
	g := makeGoldens(t)
	var b strings.Builder
	line := func(name string, v []byte) { fmt.Fprintf(&b, "%s %x\n", name, v) }
	generation, secret := g.alice.sess.Identity().RealmSecret()
	nonce, realm := g.alice.sess.Nonce(), g.alice.own.Realm
	fmt.Fprintf(&b, "generation %d\n", generation)
	line("secret", secret[:])
	line("realm", realm[:])
	line("alice", g.alice.id[:])
	line("bob", g.bob.id[:])
	line("session", nonce[:])
	k := g.alice.keys.Load().current
	fmt.Fprintf(&b, "to %s\nhint %s\n", k.toSubject(g.bob.id), k.hintSubject(g.alice.id))
	line("direct", g.direct)
	line("broadcast", g.broadcast)
	for _, subject := range slices.Sorted(maps.Keys(g.entries)) {
		line(subject, g.entries[subject])
	}
	golden(t, "master.txt", b.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *Update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	have, should := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(have), len(should)) {
		if i >= len(have) || i >= len(should) || have[i] != should[i] {
			t.Fatalf("%s differs from line %d on; -update writes it anew", path, i+1)
		}
	}
}

// TestGoldenIsTaken: the golden messages and entries are good ones, or flipping their bits would show
// nothing.
func TestGoldenIsTaken(t *testing.T) {
	g := makeGoldens(t)
	b := g.realm.session(t, g.bob.sess.Identity())
	b.rec.values = g.entries
	got, err := b.Lookup(t.Context(), Key{Name: "alice"}, false)
	if err != nil || got.Session != g.alice.sess.Nonce() {
		t.Fatal(err)
	}
	if ok, err := b.Present(t.Context(), g.alice.id); !ok || err != nil {
		t.Fatalf("present: %v, %v", ok, err)
	}
	if err := b.readList(t.Context(), b.link.Load()); err != nil || b.verifier.Current() == nil {
		t.Fatal(err)
	}
	if n := b.count.Snapshot().Notes["bad entries"]; n != 0 {
		t.Errorf("%d bad entries", n)
	}

	g.bob.Learn(g.alice.sess.Record())
	g.bob.feed(g.direct, false)
	g.bob.feed(g.broadcast, true)
	if one, two := <-g.bob.got, <-g.bob.got; string(one.Body) != "an offer" || string(two.Body) != "a hint" || g.bob.drops() != "" {
		t.Errorf("%q, %q, drops %q", one.Body, two.Body, g.bob.drops())
	}
}

// flips calls f with copies of b of which one bit is flipped: each bit in the long form, else each bit
// of the first two bytes and of what stands at 1230 to 1240 (lengths), one of the next 128 bytes, and one of
// every eleventh of the others.
func flips(b []byte, f func(at int, flipped []byte)) {
	for at := range b {
		for bit := range 8 {
			all := at < 2 || 1230 <= at && at < 1240
			one := bit == at%8 && (at < 130 || at%11 == 0)
			if !*Long && !all && !one {
				continue
			}
			flipped := bytes.Clone(b)
			flipped[at] ^= 1 << bit
			f(at, flipped)
		}
	}
}

// TestFlippedOuter flips bits of messages as the Master could: each is dropped, and counted by its
// cause.
func TestFlippedOuter(t *testing.T) {
	g := makeGoldens(t)
	g.bob.Learn(g.alice.sess.Record())
	for _, m := range []struct {
		msg []byte
		all bool
	}{{g.direct, false}, {g.broadcast, true}} {
		flips(m.msg, func(at int, flipped []byte) {
			want := "forged"
			switch {
			case at == 0:
				want = "malformed" // version
			case at < 5:
				want = "unknown generation"
			}
			expectDrop(t, g.bob, want, at, func() { g.bob.feed(flipped, m.all) })
		})
	}
}

// expectDrop calls f, which makes one of the drop counters named in want (separated by |) rise by 1 and
// no other.
func expectDrop(t *testing.T, c *inner, want string, at int, f func()) {
	t.Helper()
	before := c.count.Snapshot()
	f()
	var rose []string
	for name, n := range c.count.Snapshot().Drops {
		if d := n - before.Drops[name]; d == 1 {
			rose = append(rose, name)
		} else if d != 0 {
			rose = append(rose, fmt.Sprintf("%s by %d", name, d))
		}
	}
	if len(rose) != 1 || !slices.Contains(strings.Split(want, "|"), rose[0]) {
		t.Fatalf("byte %d: %v rose, want %s", at, rose, want)
	}
	if len(c.got) != 0 {
		t.Fatalf("byte %d: the message was delivered", at)
	}
}

// TestFlippedInner flips bits under the outer seal, as a hostile member could, who knows the realm
// secret.
func TestFlippedInner(t *testing.T) {
	g := makeGoldens(t)
	g.bob.Learn(g.alice.sess.Record())
	k := g.alice.keys.Load().current
	for _, m := range []struct {
		msg   []byte
		all   bool
		cause func(at int, flipped []byte) string
	}{
		{g.direct, false, directCause},
		{g.broadcast, true, broadcastCause},
	} {
		h, sealed, err := wire.ParseControlHeader(bytes.Clone(m.msg))
		if err != nil {
			t.Fatal(err)
		}
		header := m.msg[:wire.ControlHeaderSize]
		aead, err := k.aead(h.Session)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := aead.Open(nil, counterNonce(h.Counter), sealed, header)
		if err != nil {
			t.Fatal(err)
		}
		flips(plain, func(at int, flipped []byte) {
			again := aead.Seal(bytes.Clone(header), counterNonce(h.Counter), flipped, header)
			expectDrop(t, g.bob, m.cause(at, flipped), at, func() { g.bob.feed(again, m.all) })
		})
	}
}

// directCause is the counter for a change at an offset of wire.ControlDirect.
func directCause(at int, flipped []byte) string {
	switch {
	case at == 0, at == 1 && flipped[1] < 0x10:
		return "malformed" // form, topic
	case 2 <= at && at < 34:
		return "unknown sender"
	case 34 <= at && at < 66:
		return "misdirected"
	case 1234 <= at && at < 1236:
		return "malformed|forged" // the record's length: too long for the message, or of bytes that are no record
	}
	return "forged"
}

// broadcastCause is the counter for a change at an offset of wire.ControlBroadcast.
func broadcastCause(at int, flipped []byte) string {
	switch {
	case at == 0, at == 1 && flipped[1] < 0x10:
		return "malformed"
	case 2 <= at && at < 34:
		return "unknown sender"
	}
	return "forged"
}

// TestFlippedEntries flips bits of entries of the directory: none is believed, each is noted.
func TestFlippedEntries(t *testing.T) {
	g := makeGoldens(t)
	k := g.alice.keys.Load().current
	ctx := t.Context()
	b := g.realm.session(t, g.bob.sess.Identity())
	l := b.link.Load()
	b.Learn(g.alice.sess.Record())
	recordKey := k.recordKey(g.alice.id)
	reads := map[string]func() bool{
		kvSubject(BucketRecords, recordKey): func() bool {
			_, err := b.readRecord(ctx, l, k, g.alice.id)
			return err == nil
		},
		kvSubject(BucketPresence, k.presenceKey(g.alice.id)): func() bool {
			ok, _ := b.Present(ctx, g.alice.id)
			return ok
		},
		kvSubject(BucketRecords, k.revocationsKey(g.alice.own.Realm)): func() bool {
			list, _ := b.storedList(ctx, l, k)
			return list != nil
		},
	}
	for _, key := range k.indexKeys(g.alice.sess.Record()) {
		prefix, _, _ := strings.Cut(key, ".")
		reads[kvSubject(BucketRecords, key)] = func() bool {
			ids, err := b.readIndex(ctx, l, k, prefix)
			return err == nil && len(ids) > 0
		}
	}
	if len(reads) != len(g.entries) {
		t.Fatalf("%d kinds of entries are read, %d were written", len(reads), len(g.entries))
	}
	for subject, read := range reads {
		b.rec.values = map[string][]byte{subject: g.entries[subject]}
		if !read() {
			t.Fatalf("%s is not believed as it was written", subject)
		}
		flips(g.entries[subject], func(at int, flipped []byte) {
			b.rec.values[subject] = flipped
			before := b.count.Snapshot().Notes["bad entries"]
			if read() {
				t.Fatalf("%s: byte %d flipped, and believed", subject, at)
			}
			if n := b.count.Snapshot().Notes["bad entries"] - before; n != 1 {
				t.Fatalf("%s: byte %d flipped, noted %d times", subject, at, n)
			}
		})
	}
}

// TestMovedEntries: the Master cannot show one entry in another's place.
func TestMovedEntries(t *testing.T) {
	g := makeGoldens(t)
	k := g.alice.keys.Load().current
	b := g.realm.session(t, g.bob.sess.Identity())
	l := b.link.Load()
	key := kvSubject(BucketRecords, k.recordKey(g.alice.id))
	b.rec.values = map[string][]byte{kvSubject(BucketRecords, k.recordKey(g.bob.id)): g.entries[key]}
	if _, err := b.readRecord(t.Context(), l, k, g.bob.id); err == nil {
		t.Error("alice's record is believed to be bob's")
	}
	name := k.prefix(kindName, []byte("alice"))
	for subject, v := range g.entries {
		b.rec.values = map[string][]byte{kvSubject(BucketRecords, k.prefix(kindName, []byte("bank"))+".X"): v}
		ids, err := b.readIndex(t.Context(), l, k, k.prefix(kindName, []byte("bank")))
		if err != nil || len(ids) != 0 {
			t.Errorf("%s passes as an entry for another name (the right one is %s): %v, %v", subject, name, ids, err)
		}
	}
	// What a member wrote about itself under a name that is not its own leads to nothing.
	mallory := g.realm.new(t, "eve")
	mallory.link.Store(newLink(b.rec))
	if err := mallory.publish(t.Context(), mallory.link.Load(), mallory.generations(), mallory.sess.Record()); err != nil {
		t.Fatal(err)
	}
	lie := k.prefix(kindName, []byte("bank"))
	if err := mallory.put(t.Context(), l, k, BucketRecords, lie+"."+k.digest(mallory.id[:]), lie, wire.AppendControlIndex(nil, mallory.id)); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Lookup(t.Context(), Key{Name: "bank"}, false); err == nil {
		t.Errorf("bank is %v", r.Certificate)
	}
}
