package stream

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/cloudflare/circl/kem/xwing"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// InitiatorConfig says which stream to open. All fields but Predecessor are required.
type InitiatorConfig struct {
	Session *identity.Session
	// Peer is the verified record of the responder. The stream's messages bear the tag of its
	// current epoch.
	Peer *identity.Record
	// Predecessor is the stream that the new one takes over from; zero if none.
	Predecessor wire.StreamID
	// Signer signs the stream's messages.
	Signer *Signer
}

// Initiator is the handshake of the end that opens a stream. It waits for one accept; sending
// the open again, and giving up, is for its user. It is safe for concurrent use.
type Initiator struct {
	cfg       InitiatorConfig
	tag       identity.Tag // ours, that the accept bears
	h1        node
	id, reply wire.StreamID
	openHash  node
	hopLimit  uint8

	mu        sync.Mutex
	s1        []byte
	ephemeral *xwing.PrivateKey // nil after the accept
}

// NewInitiator begins a handshake: it returns the open to send, envelope included, which may
// be sent again unchanged. It costs one encapsulation, one key pair and one signature, about
// 0.2 ms.
func NewInitiator(cfg InitiatorConfig) (i *Initiator, open []byte, err error) {
	own := cfg.Session.Record()
	if len(own.Raw) > wire.MaxRecord {
		return nil, nil, fmt.Errorf("stream: open: record of %d bytes: %w", len(own.Raw), ErrMalformed)
	}
	i = &Initiator{cfg: cfg, tag: own.Current.Tag, hopLimit: drawHopLimit()}
	t := transcript{
		realm: cfg.Session.Identity().Realm(), initiator: own.ID(), responder: cfg.Peer.ID(),
		box: wire.OpenBox{Record: own.Raw, Predecessor: cfg.Predecessor},
	}
	if t.ciphertext, i.s1, err = identity.Encapsulate(cfg.Peer.Current.KEM); err != nil {
		return nil, nil, fmt.Errorf("stream: open: %w", err)
	}
	if t.box.Ephemeral, err = i.drawEphemeral(); err != nil {
		return nil, nil, fmt.Errorf("stream: open: %w", err)
	}
	i.h1 = t.hash()
	i.id, i.reply = streamIDs(&i.h1)
	if t.box.Signature, err = cfg.Session.Identity().Sign(identity.ContextOpen, i.h1[:]); err != nil {
		return nil, nil, fmt.Errorf("stream: open: %w", err)
	}
	if open, err = i.encode(&t); err != nil {
		return nil, nil, fmt.Errorf("stream: open: %w", err)
	}
	return i, open, nil
}

// drawEphemeral draws the key pair of this stream and returns its public key.
func (i *Initiator) drawEphemeral() ([]byte, error) {
	private, public, err := xwing.GenerateKeyPair(nil)
	if err != nil {
		return nil, err
	}
	i.ephemeral = private
	packed := make([]byte, xwing.PublicKeySize)
	public.Pack(packed)
	return packed, nil
}

// encode writes the open.
func (i *Initiator) encode(t *transcript) ([]byte, error) {
	body := wire.OpenBody{Suite: wire.Suite, Ciphertext: t.ciphertext}
	size := wire.EnvelopeSize + body.Size() + t.box.Size() + wire.SealOverhead
	m := make([]byte, wire.EnvelopeSize, size)
	e := wire.Envelope{Kind: wire.KindOpen, Tag: i.cfg.Peer.Current.Tag, Stream: i.id}
	e.Put(m)
	m = body.Append(m)
	var nonce [nonceSize]byte // s1, and so the key, serves this box alone
	m, err := sealBox(m, nonce[:], t.box.Append(nil), nil, i.s1, openLabel)
	if err != nil {
		return nil, err
	}
	i.openHash = sha256.Sum256(m[wire.EnvelopeSize:])
	m[2] = i.hopLimit
	return m, nil
}

// ID is the stream id that the open and the messages after it bear.
func (i *Initiator) ID() wire.StreamID { return i.id }

// Reply is the stream id that the accept bears.
func (i *Initiator) Reply() wire.StreamID { return i.reply }

// Accept takes an accept that came at now. The first valid one establishes the stream; after
// it Accept returns ErrAccepted. Errors before it change nothing: ErrMalformed, with wire's,
// ErrKind, ErrTag, ErrStreamID, ErrSeal and ErrSignature.
func (i *Initiator) Accept(message []byte, now time.Time) (*Established, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ephemeral == nil {
		return nil, fmt.Errorf("stream: accept: %w", ErrAccepted)
	}
	box, err := i.openAccept(message)
	if err != nil {
		return nil, fmt.Errorf("stream: accept: %w", err)
	}
	h2 := acceptHash(&i.h1, &i.openHash, &box)
	if !i.cfg.Peer.Certificate.Verify(identity.ContextAccept, h2[:], box.Signature) {
		return nil, fmt.Errorf("stream: accept: %w", ErrSignature)
	}
	s2 := make([]byte, xwing.SharedKeySize)
	i.ephemeral.DecapsulateTo(s2, box.Ciphertext)
	e := &Established{
		ID: i.id, Reply: i.reply, Predecessor: i.cfg.Predecessor, Peer: i.cfg.Peer, Grant: box.Grant,
	}
	if err := e.establish(&h2, i.s1, s2, true, i.cfg.Signer, i.cfg.Peer.Current.Tag, i.hopLimit, now); err != nil {
		return nil, fmt.Errorf("stream: accept: %w", err)
	}
	i.ephemeral, i.s1 = nil, nil
	return e, nil
}

// openAccept checks an accept as far as its seal reaches.
func (i *Initiator) openAccept(message []byte) (wire.AcceptBox, error) {
	e, err := envelopeOf(message, wire.KindAccept)
	switch {
	case err != nil:
		return wire.AcceptBox{}, err
	case e.Stream != i.reply:
		return wire.AcceptBox{}, ErrStreamID
	case e.Tag != i.tag:
		return wire.AcceptBox{}, ErrTag
	}
	body, err := wire.ParseAcceptBody(message[wire.EnvelopeSize:])
	if err != nil {
		return wire.AcceptBox{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	plain, err := openBox(message, wire.AcceptNonceSize, body.Nonce[:], i.h1[:], i.s1, acceptLabel)
	if err != nil {
		return wire.AcceptBox{}, err
	}
	box, err := wire.ParseAcceptBox(plain)
	if err != nil {
		return wire.AcceptBox{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return box, nil
}
