package stream

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/cloudflare/circl/kem/xwing"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

func TestHandshake(t *testing.T) {
	r := sharedRealm(t)
	predecessor := wire.StreamID(pattern(16, 9))
	i, open, err := NewInitiator(InitiatorConfig{
		Session: r.alice.session, Peer: r.bob.session.Record(), Predecessor: predecessor, Signer: r.alice.signer(),
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := OpenBox1(r.bob.session, open)
	if err != nil {
		t.Fatal(err)
	}
	if h.Peer() != nil {
		t.Error("an unverified open names a peer")
	}
	if err := h.Verify(r.bob.verifier); err != nil {
		t.Fatal(err)
	}
	if h.Peer().ID() != r.alice.identity.ID() || h.ID() != i.ID() || h.Predecessor() != predecessor {
		t.Errorf("open of %v, stream %x after %x", h.Peer().ID(), h.ID(), h.Predecessor())
	}
	accept, bob, err := h.Accept(1<<20, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	alice, err := i.Accept(accept, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	if alice.ID != bob.ID || alice.Reply != bob.Reply || alice.ID == alice.Reply || alice.Reply != i.Reply() {
		t.Error("the ends disagree on stream ids")
	}
	if alice.Grant != 1<<20 || alice.Predecessor != predecessor || bob.Predecessor != predecessor ||
		alice.Peer.ID() != r.bob.identity.ID() || bob.Peer.ID() != r.alice.identity.ID() {
		t.Error("the ends disagree on what was agreed")
	}
	exchange(t, alice, bob)
}

// exchange sends every kind of message over an established stream.
func exchange(t *testing.T, alice, bob *Established) {
	t.Helper()
	packets := [][]byte{pattern(100, 1), pattern(1, 2), pattern(1400, 3)}
	m, number, err := alice.Sealer.Seal(batchOf(t, packets...), 0, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := bob.Opener.Open(m, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	if d.Number != number || d.Body.Count() != len(packets) {
		t.Fatalf("message %d of %d packets", d.Number, d.Body.Count())
	}
	for n, p := range packets {
		if !bytes.Equal(d.Body.Packet(n), p) {
			t.Errorf("packet %d differs", n)
		}
	}
	m.Release()

	ack := wire.AckBody{Grant: 5, Cumulative: 1}
	if m, _, err = bob.Sealer.SealAck(&ack, epoch0); err != nil {
		t.Fatal(err)
	}
	var got wire.AckBody
	if _, err := alice.Opener.OpenAck(m, &got, epoch0); err != nil || got != ack {
		t.Errorf("acknowledgement: %v", err)
	}
	m.Release()
	if m, _, err = alice.Sealer.SealClose(1, epoch0); err != nil {
		t.Fatal(err)
	}
	if c, err := bob.Opener.OpenControl(m, epoch0); err != nil || c.Kind != wire.KindClose || c.Final != 1 {
		t.Errorf("close: %+v, %v", c, err)
	}
	m.Release()
}

// The first valid accept wins; a repeated open gets the same accept, other bytes get none.
func TestHandshakeRepeated(t *testing.T) {
	r := sharedRealm(t)
	i, open := r.alice.initiate(t, r.bob)
	accept, bob := r.bob.answer(t, open, 1)
	again, err := bob.Answer(open)
	if err != nil || !bytes.Equal(again, accept) {
		t.Errorf("repeated open: %v, the same accept: %v", err, bytes.Equal(again, accept))
	}
	detour := bytes.Clone(open)
	detour[2], detour[3] = detour[2]-1, wire.FlagDetour
	if _, err := bob.Answer(detour); err != nil {
		t.Errorf("repeated open after a hop: %v", err)
	}
	detour[len(detour)-1] ^= 1
	_, err = bob.Answer(detour)
	wantError(t, "other bytes under the stream id", err, ErrStreamID)
	_, err = bob.Answer(nil)
	wantError(t, "nothing", err, ErrStreamID)

	bad := bytes.Clone(accept)
	bad[len(bad)-1] ^= 1
	_, err = i.Accept(bad, epoch0)
	wantError(t, "corrupt accept", err, ErrSeal)
	if _, err := i.Accept(accept, epoch0); err != nil {
		t.Errorf("valid accept after a corrupt one: %v", err)
	}
	_, err = i.Accept(accept, epoch0)
	wantError(t, "second accept", err, ErrAccepted)
	if _, err := new(Established).Answer(open); !errors.Is(err, ErrStreamID) {
		t.Errorf("the initiator's end answers opens: %v", err)
	}
}

// An open that does not belong to this anchor, or comes from one that may not, is refused.
func TestHandshakeRefused(t *testing.T) {
	r, other := sharedRealm(t), newRealm(t)
	_, open := r.alice.initiate(t, r.bob)
	_, err := OpenBox1(r.alice.session, open)
	wantError(t, "open for another anchor", err, ErrTag)

	h, err := OpenBox1(r.bob.session, open)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = h.Accept(1, epoch0)
	wantError(t, "accept before verification", err, ErrSignature)
	late := identity.NewVerifier(r.bob.identity, func() time.Time { return epoch0.Add(48 * time.Hour) })
	wantError(t, "expired initiator", h.Verify(late), identity.ErrExpired)

	_, foreign := other.alice.initiate(t, r.bob)
	h, err = OpenBox1(r.bob.session, foreign)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "initiator of another realm", h.Verify(r.bob.verifier), identity.ErrForeignRealm)
}

// forge builds an open to bob whose box holds what change leaves of alice's.
func forge(t *testing.T, r *realm, change func(tr *transcript, e *wire.Envelope)) []byte {
	t.Helper()
	ct, s1, err := identity.Encapsulate(r.bob.session.Record().Current.KEM)
	if err != nil {
		t.Fatal(err)
	}
	_, ephemeral, err := xwing.GenerateKeyPairPacked(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tr := &transcript{
		realm: r.alice.identity.Realm(), initiator: r.alice.identity.ID(), responder: r.bob.identity.ID(),
		ciphertext: ct, box: wire.OpenBox{Record: r.alice.session.Record().Raw, Ephemeral: ephemeral},
	}
	h1 := tr.hash()
	if tr.box.Signature, err = r.alice.identity.Sign(identity.ContextOpen, h1[:]); err != nil {
		t.Fatal(err)
	}
	e := wire.Envelope{Kind: wire.KindOpen, HopLimit: 16, Tag: r.bob.session.Record().Current.Tag}
	e.Stream, _ = streamIDs(&h1)
	change(tr, &e)
	m := make([]byte, wire.EnvelopeSize)
	e.HopLimit = 0
	e.Put(m)
	body := wire.OpenBody{Suite: wire.Suite, Ciphertext: tr.ciphertext}
	m = body.Append(m)
	if m, err = sealBox(m, make([]byte, nonceSize), tr.box.Append(nil), nil, s1, openLabel); err != nil {
		t.Fatal(err)
	}
	return m
}

// Whatever is in a box that opens, its signature and stream id have to fit it.
func TestOpenForged(t *testing.T) {
	r := sharedRealm(t)
	resign := func(tr *transcript, e *wire.Envelope, c identity.Context) {
		h1 := tr.hash()
		e.Stream, _ = streamIDs(&h1)
		if c != "" {
			tr.box.Signature, _ = r.alice.identity.Sign(c, h1[:])
		}
	}
	for name, tc := range map[string]struct {
		change func(tr *transcript, e *wire.Envelope)
		want   error
	}{
		"unchanged":         {func(*transcript, *wire.Envelope) {}, nil},
		"another stream id": {func(_ *transcript, e *wire.Envelope) { e.Stream[0] ^= 1 }, ErrStreamID},
		"predecessor unsigned": {func(tr *transcript, e *wire.Envelope) {
			tr.box.Predecessor[3] = 1
			resign(tr, e, "")
		}, ErrSignature},
		"another ephemeral key": {func(tr *transcript, e *wire.Envelope) {
			tr.box.Ephemeral[7] ^= 1
		}, ErrStreamID},
		"another's record": {func(tr *transcript, e *wire.Envelope) {
			tr.box.Record, tr.initiator = r.bob.session.Record().Raw, r.bob.identity.ID()
			resign(tr, e, "")
		}, ErrSignature},
		"signature of another purpose": {func(tr *transcript, e *wire.Envelope) {
			resign(tr, e, identity.ContextAccept)
		}, ErrSignature},
		"signed for another responder": {func(tr *transcript, e *wire.Envelope) {
			tr.responder = r.alice.identity.ID()
			resign(tr, e, identity.ContextOpen)
		}, ErrStreamID},
		"signed for another realm": {func(tr *transcript, e *wire.Envelope) {
			tr.realm[0] ^= 1
			resign(tr, e, identity.ContextOpen)
		}, ErrStreamID},
		"corrupt record": {func(tr *transcript, e *wire.Envelope) {
			tr.box.Record = bytes.Clone(tr.box.Record)
			tr.box.Record[len(tr.box.Record)-1] ^= 1
			resign(tr, e, identity.ContextOpen)
		}, identity.ErrSignature},
		"no record": {func(tr *transcript, e *wire.Envelope) {
			tr.box.Record = []byte{0}
			resign(tr, e, identity.ContextOpen)
		}, identity.ErrFormat},
	} {
		h, err := OpenBox1(r.bob.session, forge(t, r, tc.change))
		if err != nil {
			t.Errorf("%s: box: %v", name, err)
			continue
		}
		if err := h.Verify(r.bob.verifier); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		} else if err != nil && h.Peer() != nil {
			t.Errorf("%s: names a peer", name)
		}
	}
}

// An ephemeral key that is none is the initiator's fault, found when the responder answers.
func TestAcceptBadEphemeral(t *testing.T) {
	r := sharedRealm(t)
	open := forge(t, r, func(tr *transcript, e *wire.Envelope) {
		for i := range 1184 { // ML-KEM coefficients above q
			tr.box.Ephemeral[i] = 0xff
		}
		h1 := tr.hash()
		e.Stream, _ = streamIDs(&h1)
		tr.box.Signature, _ = r.alice.identity.Sign(identity.ContextOpen, h1[:])
	})
	h, err := OpenBox1(r.bob.session, open)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Verify(r.bob.verifier); err != nil {
		t.Fatal(err)
	}
	_, _, err = h.Accept(1, epoch0)
	wantError(t, "accept", err, ErrMalformed)
}

// An accept counts only if the responder signed it for this open.
func TestAcceptForged(t *testing.T) {
	r := sharedRealm(t)
	for name, tc := range map[string]struct {
		change func(i *Initiator, b *wire.AcceptBox, e *wire.Envelope)
		want   error
	}{
		"unchanged": {func(*Initiator, *wire.AcceptBox, *wire.Envelope) {}, nil},
		"another grant": {func(_ *Initiator, b *wire.AcceptBox, _ *wire.Envelope) {
			b.Grant++
		}, ErrSignature},
		"another ciphertext": {func(_ *Initiator, b *wire.AcceptBox, _ *wire.Envelope) {
			b.Ciphertext[5] ^= 1
		}, ErrSignature},
		"signed by another": {func(i *Initiator, b *wire.AcceptBox, _ *wire.Envelope) {
			h2 := acceptHash(&i.h1, &i.openHash, b)
			b.Signature, _ = r.alice.identity.Sign(identity.ContextAccept, h2[:])
		}, ErrSignature},
		"of another open": {func(i *Initiator, b *wire.AcceptBox, _ *wire.Envelope) {
			hash := sha256.Sum256(nil)
			h2 := acceptHash(&i.h1, &hash, b)
			b.Signature, _ = r.bob.identity.Sign(identity.ContextAccept, h2[:])
		}, ErrSignature},
		"the initiator's stream id": {func(i *Initiator, _ *wire.AcceptBox, e *wire.Envelope) {
			e.Stream = i.ID()
		}, ErrStreamID},
		"the responder's tag": {func(i *Initiator, _ *wire.AcceptBox, e *wire.Envelope) {
			e.Tag = r.bob.session.Record().Current.Tag
		}, ErrTag},
		"an open's kind": {func(i *Initiator, _ *wire.AcceptBox, e *wire.Envelope) {
			e.Kind = wire.KindOpen
		}, ErrKind},
		"number 1": {func(i *Initiator, _ *wire.AcceptBox, e *wire.Envelope) {
			e.Number = 1
		}, ErrMalformed},
	} {
		i, _ := r.alice.initiate(t, r.bob)
		var b wire.AcceptBox
		var err error
		if b.Ciphertext, _, err = identity.Encapsulate(r.bob.session.Record().Current.KEM); err != nil {
			t.Fatal(err)
		}
		b.Grant = 77
		h2 := acceptHash(&i.h1, &i.openHash, &b)
		if b.Signature, err = r.bob.identity.Sign(identity.ContextAccept, h2[:]); err != nil {
			t.Fatal(err)
		}
		e := wire.Envelope{Kind: wire.KindAccept, Tag: i.tag, Stream: i.Reply()}
		tc.change(i, &b, &e)
		m := make([]byte, wire.EnvelopeSize)
		e.Put(m)
		nonce := pattern(wire.AcceptNonceSize, 1)
		m = append(m, nonce...)
		if m, err = sealBox(m, nonce, b.Append(nil), i.h1[:], i.s1, acceptLabel); err != nil {
			t.Fatal(err)
		}
		if _, err := i.Accept(m, epoch0); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

// The hop limits that streams start with are drawn from 13 to 16, for either end.
func TestHopLimitDrawn(t *testing.T) {
	seen := map[uint8]bool{}
	for range 200 {
		n := drawHopLimit()
		if n < 13 || n > wire.MaxHopLimit {
			t.Fatalf("hop limit %d", n)
		}
		seen[n] = true
	}
	if len(seen) != 4 {
		t.Errorf("200 draws gave %d values", len(seen))
	}
	r := sharedRealm(t)
	i, open := r.alice.initiate(t, r.bob)
	accept, bob := r.bob.answer(t, open, 1)
	alice, err := i.Accept(accept, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := alice.Sealer.SealClose(0, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	if got := bytesOf(m)[2]; got != open[2] {
		t.Errorf("the initiator's messages start at %d and %d", open[2], got)
	}
	if m, _, err = bob.Sealer.SealClose(0, epoch0); err != nil {
		t.Fatal(err)
	}
	if got := bytesOf(m)[2]; got != accept[2] {
		t.Errorf("the responder's messages start at %d and %d", accept[2], got)
	}
}

// A peer whose record holds no valid key fails the open before anything is sent.
func TestNewInitiatorBadKey(t *testing.T) {
	r := sharedRealm(t)
	bad := *r.bob.session.Record()
	bad.Current.KEM = bad.Current.KEM[:100]
	_, _, err := NewInitiator(InitiatorConfig{Session: r.alice.session, Peer: &bad, Signer: r.alice.signer()})
	wantError(t, "short key", err, identity.ErrFormat)
}
