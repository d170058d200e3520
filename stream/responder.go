package stream

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// Hello is the handshake of the end that a stream is opened to, in three steps of rising
// cost, so that a flood of opens is turned away cheaply: OpenBox1, Verify, Accept. It is not
// safe for concurrent use.
type Hello struct {
	session  *identity.Session
	id       wire.StreamID
	s1       []byte
	openHash node
	t        transcript
	h1       node
	peer     *identity.Record // nil before Verify
}

// OpenBox1 takes an open and opens its box: one decapsulation and one decryption, some 50 us,
// and nothing verified. It keeps no reference to message. Errors: ErrMalformed, with wire's
// (wire.ErrSuite for another suite), ErrKind, ErrTag and ErrSeal.
func OpenBox1(session *identity.Session, message []byte) (*Hello, error) {
	h, err := openHello(session, message)
	if err != nil {
		return nil, fmt.Errorf("stream: open: %w", err)
	}
	return h, nil
}

func openHello(session *identity.Session, message []byte) (*Hello, error) {
	e, err := envelopeOf(message, wire.KindOpen)
	if err != nil {
		return nil, err
	}
	b, err := wire.ParseOpenBody(message[wire.EnvelopeSize:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	s1, err := session.Decapsulate(e.Tag, b.Ciphertext)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTag, err)
	}
	h := &Hello{session: session, id: e.Stream, s1: s1}
	h.t.realm, h.t.responder = session.Identity().Realm(), session.Identity().ID()
	h.t.ciphertext = bytes.Clone(b.Ciphertext)
	return h, h.unbox(message, len(b.Box))
}

// unbox opens the box of size bytes at the end of an open.
func (h *Hello) unbox(message []byte, size int) error {
	body := message[wire.EnvelopeSize:]
	var nonce [nonceSize]byte
	plain, err := openBox(message, len(body)-size, nonce[:], nil, h.s1, openLabel)
	if err != nil {
		return err
	}
	if h.t.box, err = wire.ParseOpenBox(plain); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	h.openHash = sha256.Sum256(body)
	return nil
}

// ID is the stream id that the open bears.
func (h *Hello) ID() wire.StreamID { return h.id }

// Predecessor is the stream that the new one takes over from, zero if none, as the open says.
func (h *Hello) Predecessor() wire.StreamID { return h.t.box.Predecessor }

// Peer is the initiator's record; nil before Verify returned nil.
func (h *Hello) Peer() *identity.Record { return h.peer }

// Verify verifies the initiator's record, checks that its certificate is in force, and
// verifies that it signed this open to this anchor: up to five signatures, some 0.1 ms for an
// unknown initiator. Errors: those of the Verifier, ErrStreamID and ErrSignature.
func (h *Hello) Verify(v *identity.Verifier) error {
	record, err := v.Record(h.t.box.Record)
	if err != nil {
		return fmt.Errorf("stream: verify open: %w", err)
	}
	if err := v.Check(record.Certificate); err != nil {
		return fmt.Errorf("stream: verify open of %q: %w", record.Certificate.Name, err)
	}
	h.t.initiator = record.ID()
	h.h1 = h.t.hash()
	if id, _ := streamIDs(&h.h1); id != h.id {
		return fmt.Errorf("stream: verify open of %q: %w", record.Certificate.Name, ErrStreamID)
	}
	if !record.Certificate.Verify(identity.ContextOpen, h.h1[:], h.t.box.Signature) {
		return fmt.Errorf("stream: verify open of %q: %w", record.Certificate.Name, ErrSignature)
	}
	h.peer = record
	return nil
}

// Accept establishes the stream at now with a grant of so many data bytes and returns the
// accept to send, envelope included; Established.Answer returns it again. It costs one
// encapsulation and one signature. It must follow a successful Verify, and be called once.
func (h *Hello) Accept(grant uint64, now time.Time) (accept []byte, e *Established, err error) {
	if h.peer == nil {
		return nil, nil, fmt.Errorf("stream: accept before verification: %w", ErrSignature)
	}
	e = &Established{Predecessor: h.t.box.Predecessor, Peer: h.peer, Grant: grant, openHash: h.openHash}
	e.ID, e.Reply = streamIDs(&h.h1)
	box := wire.AcceptBox{Grant: grant}
	var s2 []byte
	if box.Ciphertext, s2, err = identity.Encapsulate(h.t.box.Ephemeral); err != nil {
		return nil, nil, fmt.Errorf("stream: accept: %w: %w", ErrMalformed, err)
	}
	h2 := acceptHash(&h.h1, &h.openHash, &box)
	if box.Signature, err = h.session.Identity().Sign(identity.ContextAccept, h2[:]); err != nil {
		return nil, nil, fmt.Errorf("stream: accept: %w", err)
	}
	hopLimit := drawHopLimit()
	if e.accept, err = h.encode(e, &box, hopLimit); err != nil {
		return nil, nil, fmt.Errorf("stream: accept: %w", err)
	}
	if err := e.establish(&h2, h.s1, s2, false, nil, h.peer.Current.Tag, hopLimit, now); err != nil {
		return nil, nil, fmt.Errorf("stream: accept: %w", err)
	}
	return e.accept, e, nil
}

// encode writes the accept.
func (h *Hello) encode(e *Established, box *wire.AcceptBox, hopLimit uint8) ([]byte, error) {
	m := make([]byte, wire.EnvelopeSize, wire.EnvelopeSize+wire.AcceptBodySize)
	envelope := wire.Envelope{Kind: wire.KindAccept, Tag: h.peer.Current.Tag, Stream: e.Reply}
	envelope.Put(m)
	var nonce [wire.AcceptNonceSize]byte
	rand.Read(nonce[:]) // never fails, see crypto/rand
	m = append(m, nonce[:]...)
	m, err := sealBox(m, nonce[:], box.Append(nil), h.h1[:], h.s1, acceptLabel)
	if err != nil {
		return nil, err
	}
	m[2] = hopLimit
	return m, nil
}
