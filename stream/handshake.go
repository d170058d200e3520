package stream

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// The labels of the boxes' keys.
const (
	openLabel   = "anchor/1 open key"
	acceptLabel = "anchor/1 accept key"
)

// Established is a stream after its handshake, as one of its ends has it.
type Established struct {
	// ID is the stream id of the initiator's messages, Reply that of the responder's. No relay
	// can tell that they belong together.
	ID, Reply wire.StreamID
	// Predecessor is the stream that this one takes over from; zero if none.
	Predecessor wire.StreamID
	// Peer is the verified record of the other end.
	Peer *identity.Record
	// Grant is the number of data bytes that the initiator may send at first.
	Grant uint64
	// Sealer seals what this end sends, Opener opens what it receives.
	Sealer *Sealer
	Opener *Opener

	openHash node   // of the open's body; responder only
	accept   []byte // responder only
}

// Answer is the responder's answer to another open with its stream id: the same accept, which
// must not be changed, for the same open, and ErrStreamID for other bytes. It is safe for
// concurrent use.
func (e *Established) Answer(open []byte) (accept []byte, err error) {
	if len(open) < wire.EnvelopeSize || e.accept == nil || sha256.Sum256(open[wire.EnvelopeSize:]) != e.openHash {
		return nil, fmt.Errorf("stream: answer: %w", ErrStreamID)
	}
	return e.accept, nil
}

// transcript is what both ends know of an open before they trust it.
type transcript struct {
	realm                identity.RealmID
	initiator, responder identity.ID
	ciphertext           []byte // ct1
	box                  wire.OpenBox
}

// hash is h1: the open's signature covers it, and the stream ids are its halves.
func (t *transcript) hash() node {
	record := sha256.Sum256(t.box.Record)
	h := sha256.New()
	h.Write([]byte("anchor/1 open"))
	h.Write([]byte{wire.Suite})
	h.Write(t.realm[:])
	h.Write(t.initiator[:])
	h.Write(t.responder[:])
	h.Write(t.ciphertext)
	h.Write(record[:])
	h.Write(t.box.Ephemeral)
	h.Write(t.box.Predecessor[:])
	return node(h.Sum(nil))
}

// acceptHash is h2: the accept's signature covers it, and the keys hang on it.
func acceptHash(h1, openHash *node, a *wire.AcceptBox) node {
	h := sha256.New()
	h.Write([]byte("anchor/1 accept"))
	h.Write(h1[:])
	h.Write(openHash[:])
	h.Write(a.Ciphertext)
	var grant [8]byte
	binary.BigEndian.PutUint64(grant[:], a.Grant)
	h.Write(grant[:])
	return node(h.Sum(nil))
}

// streamIDs are the halves of h1.
func streamIDs(h1 *node) (id, reply wire.StreamID) {
	return wire.StreamID(h1[:16]), wire.StreamID(h1[16:])
}

// envelopeOf checks the envelope of a handshake message of a kind.
func envelopeOf(message []byte, kind wire.Kind) (wire.Envelope, error) {
	e, err := wire.ParseEnvelope(message)
	switch {
	case err != nil:
		return e, fmt.Errorf("%w: %w", ErrMalformed, err)
	case e.Kind != kind:
		return e, fmt.Errorf("%v for %v: %w", e.Kind, kind, ErrKind)
	case e.Number != 0:
		return e, fmt.Errorf("number %d: %w", e.Number, ErrMalformed)
	}
	return e, nil
}

// sealBox seals plaintext behind message, whose envelope and body before the box are its
// additional data while hop limit and flags are zero.
func sealBox(message, nonce, plaintext, salt, s1 []byte, label string) ([]byte, error) {
	aead, err := boxAEAD(salt, s1, label)
	if err != nil {
		return nil, err
	}
	return aead.Seal(message, nonce, plaintext, message), nil
}

// openBox opens the box behind the first prefix bytes of a message's body.
func openBox(message []byte, prefix int, nonce, salt, s1 []byte, label string) ([]byte, error) {
	aead, err := boxAEAD(salt, s1, label)
	if err != nil {
		return nil, err
	}
	masked := wire.Masked(message)
	clear := message[wire.EnvelopeSize : wire.EnvelopeSize+prefix]
	plain, err := aead.Open(nil, nonce, message[wire.EnvelopeSize+prefix:], append(masked[:], clear...))
	if err != nil {
		return nil, ErrSeal
	}
	return plain, nil
}

// drawHopLimit draws where the hop limit of a stream's messages starts: a neighbour cannot
// tell an origin from a relay.
func drawHopLimit() uint8 {
	var b [1]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return wire.MaxHopLimit - b[0]&3
}

// establish derives the keys of a stream and makes this end's Sealer and Opener.
func (e *Established) establish(h2 *node, s1, s2 []byte, initiator bool, signer *Signer, tag identity.Tag, hopLimit uint8, now time.Time) error {
	k, err := schedule(h2, s1, s2)
	if err != nil {
		return err
	}
	peer := e.Peer.Certificate
	e.Sealer = &Sealer{tag: tag, hopLimit: hopLimit, initiator: initiator, start: now}
	e.Opener = &Opener{initiator: !initiator, start: now, age: HardAge + lateAge,
		verify: func(message, signature []byte) bool {
			return peer.Verify(identity.ContextBatch, message, signature)
		}}
	data, ack := &e.Sealer.half, &e.Opener.half
	e.Sealer.age, e.Sealer.signer = HardAge, signer
	if !initiator {
		data, ack = ack, data
		e.Sealer.age, e.Sealer.signer = HardAge+lateAge, nil
	}
	if err := data.init(e.ID, k.data[:], k.dataIV[:], k.leaf[:]); err != nil {
		return err
	}
	return ack.init(e.Reply, k.ack[:], k.ackIV[:], k.leaf[:])
}
