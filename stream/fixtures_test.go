package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// epoch0 is the time at which the tests' streams begin.
var epoch0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// pattern returns n bytes that depend on seed.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed ^ byte(i*31>>3)
	}
	return b
}

// fakeSign stands in for ML-DSA-44 where the signature is not the matter: it is public, fast
// and repeatable.
func fakeSign(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	return bytes.Repeat(sum[:], wire.SignatureSize/len(sum)+1)[:wire.SignatureSize], nil
}

func fakeVerify(message, signature []byte) bool {
	want, _ := fakeSign(message)
	return bytes.Equal(want, signature)
}

// ends are both ends of a stream.
type ends struct {
	data, ack       *Sealer
	openData        *Opener
	openAck         *Opener
	verified, signs int // calls to fakeVerify and fakeSign
}

// newEnds returns a stream with fixed keys and fake signatures.
func newEnds(t testing.TB) *ends {
	t.Helper()
	h2 := sha256.Sum256([]byte("handshake"))
	k, err := schedule(&h2, pattern(32, 1), pattern(32, 2))
	if err != nil {
		t.Fatal(err)
	}
	e := new(ends)
	signer := NewSigner(func(m []byte) ([]byte, error) { e.signs++; return fakeSign(m) })
	verify := func(m, s []byte) bool { e.verified++; return fakeVerify(m, s) }
	id, reply := wire.StreamID(pattern(16, 3)), wire.StreamID(pattern(16, 4))
	tag, back := wire.Tag(pattern(16, 5)), wire.Tag(pattern(16, 6))

	e.data = &Sealer{tag: tag, hopLimit: 15, initiator: true, signer: signer, start: epoch0, age: HardAge}
	e.openData = &Opener{initiator: true, verify: verify, start: epoch0, age: HardAge + lateAge}
	e.ack = &Sealer{tag: back, hopLimit: 14, start: epoch0, age: HardAge + lateAge}
	e.openAck = &Opener{verify: verify, start: epoch0, age: HardAge + lateAge}
	for _, h := range []*half{&e.data.half, &e.openData.half} {
		if err := h.init(id, k.data[:], k.dataIV[:], k.leaf[:]); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range []*half{&e.ack.half, &e.openAck.half} {
		if err := h.init(reply, k.ack[:], k.ackIV[:], k.leaf[:]); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// batchOf returns a Batch of these packets.
func batchOf(t testing.TB, packets ...[]byte) *Batch {
	t.Helper()
	b := NewBatch(0)
	for _, p := range packets {
		if !b.Add(p) {
			t.Fatalf("packet of %d bytes does not fit", len(p))
		}
	}
	return b
}

// bufOf returns a Buf that holds m.
func bufOf(m []byte) *buffer.Buf {
	b := buffer.Get(len(m))
	b.Append(m)
	return b
}

// bytesOf ends b and returns what it held.
func bytesOf(b *buffer.Buf) []byte {
	defer b.Release()
	return bytes.Clone(b.Bytes())
}

// sealData seals a message of some packets and returns its bytes.
func (e *ends) sealData(t testing.TB, floor uint64, packets ...[]byte) []byte {
	t.Helper()
	m, _, err := e.data.Seal(batchOf(t, packets...), floor, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	return bytesOf(m)
}

// open opens a copy of data message m and returns the packets.
func (e *ends) open(m []byte) (Data, [][]byte, error) {
	b := bufOf(m)
	defer b.Release()
	d, err := e.openData.Open(b, epoch0)
	if err != nil {
		return Data{}, nil, err
	}
	var packets [][]byte
	for i := range d.Body.Count() {
		packets = append(packets, bytes.Clone(d.Body.Packet(i)))
	}
	return d, packets, nil
}

// resealed returns a message of a kind whose sealed plaintext is body, as a peer that breaks
// the rules could make it.
func (s *Sealer) resealed(kind wire.Kind, number uint64, body []byte) []byte {
	m := bufOf(body)
	s.seal(m, kind, number)
	return bytesOf(m)
}

// wantError fails the test unless err is want.
func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// member is an anchor of a test's realm.
type member struct {
	identity *identity.Identity
	session  *identity.Session
	verifier *identity.Verifier
}

// realm is an authority with two anchors.
type realm struct {
	authority  *identity.Authority
	alice, bob *member
}

// sharedRealm is the realm of all tests that change nothing about it: making one takes long.
func sharedRealm(t testing.TB) *realm {
	t.Helper()
	realmOnce.Do(func() { realmShared = newRealm(t) })
	if realmShared == nil {
		t.Fatal("no realm")
	}
	return realmShared
}

var (
	realmOnce   sync.Once
	realmShared *realm
)

func newRealm(t testing.TB) *realm {
	t.Helper()
	a, err := identity.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	r := &realm{authority: a}
	r.alice, r.bob = r.join(t, "alice"), r.join(t, "bob")
	return r
}

// join issues an identity that is valid around epoch0 and starts a session of it.
func (r *realm) join(t testing.TB, name string) *member {
	t.Helper()
	id, err := r.authority.Issue(identity.IssueOptions{
		Name: name, NotBefore: epoch0.Add(-time.Hour), NotAfter: epoch0.Add(24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return epoch0 }
	s, err := identity.NewSession(id, identity.SessionOptions{MTU: 1280, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return &member{identity: id, session: s, verifier: identity.NewVerifier(id, clock)}
}

// signer returns a Signer that signs as m.
func (m *member) signer() *Signer {
	return NewSigner(func(b []byte) ([]byte, error) { return m.identity.Sign(identity.ContextBatch, b) })
}

// initiate begins a handshake of m to peer.
func (m *member) initiate(t testing.TB, peer *member) (*Initiator, []byte) {
	t.Helper()
	i, open, err := NewInitiator(InitiatorConfig{
		Session: m.session, Peer: peer.session.Record(), Signer: m.signer(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return i, open
}

// answer takes an open as m and returns the accept.
func (m *member) answer(t testing.TB, open []byte, grant uint64) ([]byte, *Established) {
	t.Helper()
	h, err := OpenBox1(m.session, open)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Verify(m.verifier); err != nil {
		t.Fatal(err)
	}
	accept, e, err := h.Accept(grant, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	return accept, e
}

// u64 is n in big endian.
func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
