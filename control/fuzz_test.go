package control

import (
	"testing"

	"github.com/veil-net/anchor/internal/wire"
)

// FuzzReceive hands bytes to a Channel as the Master could: none are delivered, and each is counted once.
func FuzzReceive(f *testing.F) {
	r := newRealm(f)
	alice, bob := r.new(f, "alice"), r.new(f, "bob")
	f.Add(alice.to(f, alice, TopicSignal, []byte("x"), false), false) // to somebody else
	f.Add([]byte{wire.Version}, true)
	f.Add(make([]byte, wire.ControlHeaderSize+wire.SealOverhead+1), false)
	f.Fuzz(func(t *testing.T, msg []byte, all bool) {
		before := bob.count.Snapshot()
		bob.feed(msg, all)
		after := bob.count.Snapshot()
		if n := after.Dropped() - before.Dropped(); n != after.In-before.In || n != 1 || len(bob.got) != 0 {
			t.Fatalf("%d dropped of %d, %d delivered", n, after.In-before.In, len(bob.got))
		}
	})
}

// FuzzMember hands a Channel what a hostile member seals with the realm secret.
func FuzzMember(f *testing.F) {
	r := newRealm(f)
	alice, bob := r.new(f, "alice"), r.new(f, "bob")
	bob.Learn(alice.sess.Record())
	bob.offline() // no answers, no look-ups
	d := wire.ControlDirect{
		Topic: uint8(TopicSignal), Sender: alice.id, Receiver: bob.id, ReceiverSession: bob.sess.Nonce(),
		Tag: bob.sess.Record().Current.Tag, Ciphertext: make([]byte, wire.CiphertextSize),
		Record: alice.sess.Record().Raw, Box: make([]byte, 40),
	}
	signature := make([]byte, wire.SignatureSize)
	f.Add(append(d.AppendUnsigned(nil), signature...), false)
	d.Record = []byte("no record")
	f.Add(append(d.AppendUnsigned(nil), signature...), false)
	d.Sender = bob.id
	f.Add(append(d.AppendUnsigned(nil), signature...), false)
	m := wire.ControlBroadcast{Topic: uint8(TopicRevocation), Sender: alice.id, Body: []byte("no list")}
	f.Add(append(m.AppendUnsigned(nil), signature...), true)
	m.Topic = uint8(TopicHint)
	f.Add(append(m.AppendUnsigned(nil), signature...), true)
	k := alice.keys.Load().current
	f.Fuzz(func(t *testing.T, plain []byte, all bool) {
		h, header := alice.header(k)
		msg, err := alice.seal(k, header, plain, h.Counter, "")
		if err != nil {
			t.Fatal(err)
		}
		before := bob.count.Snapshot()
		bob.feed(msg, all)
		after := bob.count.Snapshot()
		if n := after.Dropped() - before.Dropped(); n > 1 || len(bob.got) != 0 {
			t.Fatalf("%d dropped, %d delivered", n, len(bob.got))
		}
	})
}
