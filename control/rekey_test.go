package control

import (
	"testing"
	"time"

	"github.com/veil-net/anchor/identity"
)

// TestOldGenerationEnds: a day after a new generation of the realm secret became known, the old one is
// neither read nor written.
func TestOldGenerationEnds(t *testing.T) {
	r := newRealm(t)
	now := time.Now()
	r.clock = func() time.Time { return now }
	alice, bob := r.new(t, "alice"), r.new(t, "bob")
	r.identity(t, "mallory")
	list, err := r.authority.Revoke("mallory")
	if err != nil {
		t.Fatal(err)
	}
	generation, secret := r.identity(t, "carol").RealmSecret()
	bob.takeList(list)
	if err := bob.Rekey(t.Context(), generation, secret); err != nil {
		t.Fatal(err)
	}

	now = now.Add(identity.SecretGrace - time.Second)
	bob.feed(alice.to(t, bob, TopicSignal, []byte("in time"), true), false)
	if m := <-bob.got; string(m.Body) != "in time" || bob.drops() != "" {
		t.Fatalf("%q, drops %q", m.Body, bob.drops())
	}
	if k := bob.keysFor(alice.id); k.generation != generation-1 {
		t.Errorf("writes to alice in generation %d, which she cannot read", k.generation)
	}
	if n := len(bob.generations()); n != 2 {
		t.Errorf("%d generations serve, want 2", n)
	}

	now = now.Add(2 * time.Second)
	bob.feed(alice.to(t, bob, TopicSignal, []byte("late"), true), false)
	if d := bob.drops(); d != "unknown generation 1" {
		t.Errorf("drops %q", d)
	}
	if k := bob.keysFor(alice.id); k.generation != generation {
		t.Errorf("writes to alice in generation %d", k.generation)
	}
	if n := len(bob.generations()); n != 1 {
		t.Errorf("%d generations serve, want 1", n)
	}
	if err := bob.subscribe(bob.link.Load()); err != nil {
		t.Fatal(err)
	}
	if n := len(bob.link.Load().subs); n != 1 {
		t.Errorf("subscribed in %d generations", n)
	}
}
