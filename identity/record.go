package identity

import (
	"fmt"
	"slices"
)

// MaxRecordSize is the largest encoded record in bytes.
const MaxRecordSize = MaxCertificateSize + 10240

// The overlay MTU in bytes that a record may state.
const (
	// MinMTU is the least that IPv6 needs (RFC 8200 section 5).
	MinMTU = 1280
	// MaxMTU leaves room for headers in a message.
	MaxMTU = 60000
)

// maxCounter keeps room above any counter that was ever seen.
const maxCounter = 1<<63 - 1

// EpochKey is what an anchor shows for one epoch. Its slices must not be changed.
type EpochKey struct {
	// Epoch is the unix day on the anchor's own clock when it began to use this key.
	Epoch uint32
	// Locator is the anchor's signature over realm, id and epoch, SignatureSize bytes.
	Locator []byte
	// KEM is the X-Wing public key for Encapsulate, KEMPublicSize bytes.
	KEM []byte
	// Tag is the hash of anchor id and Locator that messages bear.
	Tag Tag
}

// Record is what an anchor publishes about one session of itself. It is immutable and safe for
// concurrent use. One that a Verifier returned has valid signatures throughout; whether its
// certificate is in force now is Verifier.Check's to say.
type Record struct {
	// Raw is the encoded form, signature included.
	Raw         []byte
	Certificate *Certificate
	// Current is for new streams; Previous is honoured too. Current's epoch is the higher.
	Current, Previous EpochKey
	// Session is drawn at each start of the anchor.
	Session Nonce
	// Counter rises with each record of a session.
	Counter uint64
	// MTU is the largest inner packet in bytes that the anchor takes.
	MTU uint16
	// Sequence is the value for number 0 of Current's hash chain; see VerifySequence.
	Sequence [32]byte
	// ListNumber is the number of the newest revocation list the anchor holds, 0 if none.
	ListNumber uint64
}

// recordBody is what the anchor signs.
type recordBody struct {
	Certificate []byte    `cbor:"1,keyasint"`
	Current     epochBody `cbor:"2,keyasint"`
	Previous    epochBody `cbor:"3,keyasint"`
	Session     []byte    `cbor:"4,keyasint"`
	Counter     uint64    `cbor:"5,keyasint"`
	MTU         uint16    `cbor:"6,keyasint"`
	Sequence    []byte    `cbor:"7,keyasint"`
	ListNumber  uint64    `cbor:"8,keyasint"`
}

type epochBody struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32
	Locator []byte
	KEM     []byte
}

// ID returns the anchor's id.
func (r *Record) ID() ID { return r.Certificate.ID }

// NewerThan reports whether r replaces o, a record of the same anchor: by epoch, then by
// counter. No clock is asked. Within one session that order is certain. Whether a record of
// another session counts at all is for package control to find out by challenge.
func (r *Record) NewerThan(o *Record) bool {
	if r.Current.Epoch != o.Current.Epoch {
		return r.Current.Epoch > o.Current.Epoch
	}
	return r.Counter > o.Counter
}

// Epochs returns the epoch key that tag names, if it is one of the two.
func (r *Record) Epochs(tag Tag) (*EpochKey, bool) {
	switch tag {
	case r.Current.Tag:
		return &r.Current, true
	case r.Previous.Tag:
		return &r.Previous, true
	}
	return nil, false
}

// sealRecord signs r with the anchor's key and sets r.Raw.
func sealRecord(r *Record, k *privateKey) error {
	raw, err := seal(k, ContextRecord, &recordBody{
		Certificate: r.Certificate.Raw,
		Current:     epochBody{Epoch: r.Current.Epoch, Locator: r.Current.Locator, KEM: r.Current.KEM},
		Previous:    epochBody{Epoch: r.Previous.Epoch, Locator: r.Previous.Locator, KEM: r.Previous.KEM},
		Session:     r.Session[:], Counter: r.Counter, MTU: r.MTU,
		Sequence: r.Sequence[:], ListNumber: r.ListNumber,
	})
	r.Raw = raw
	return err
}

// openRecord decodes a record, has its certificate verified by open, and verifies that the
// anchor signed the record and both locators.
func openRecord(raw []byte, open func([]byte) (*Certificate, error)) (*Record, error) {
	var b recordBody
	s, err := unseal(raw, MaxRecordSize, &b)
	if err != nil {
		return nil, fmt.Errorf("identity: record: %w", err)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("identity: record: %w", err)
	}
	c, err := open(b.Certificate)
	if err != nil {
		return nil, fmt.Errorf("identity: record: %w", err)
	}
	if !c.Verify(ContextRecord, s.Body, s.Signature) {
		return nil, fmt.Errorf("identity: record of %v: %w", c, ErrSignature)
	}
	for _, e := range []*epochBody{&b.Current, &b.Previous} {
		if !verifyLocator(c, e.Epoch, e.Locator) {
			return nil, fmt.Errorf("identity: record of %v: locator of epoch %d: %w", c, e.Epoch, ErrSignature)
		}
	}
	return &Record{
		Raw: slices.Clone(raw), Certificate: c,
		Current: b.Current.key(c.ID), Previous: b.Previous.key(c.ID),
		Session: Nonce(b.Session), Counter: b.Counter, MTU: b.MTU,
		Sequence: [32]byte(b.Sequence), ListNumber: b.ListNumber,
	}, nil
}

// check checks the form of all fields but the certificate.
func (b *recordBody) check() error {
	switch {
	case len(b.Session) != len(Nonce{}):
		return fmt.Errorf("%w: session nonce of %d bytes", ErrFormat, len(b.Session))
	case len(b.Sequence) != 32:
		return fmt.Errorf("%w: sequence commitment of %d bytes", ErrFormat, len(b.Sequence))
	case b.Counter > maxCounter:
		return fmt.Errorf("%w: counter %d", ErrFormat, b.Counter)
	case b.MTU < MinMTU || b.MTU > MaxMTU:
		return fmt.Errorf("%w: MTU %d, want %d to %d", ErrFormat, b.MTU, MinMTU, MaxMTU)
	case b.Previous.Epoch >= b.Current.Epoch:
		return fmt.Errorf("%w: previous epoch %d, current epoch %d", ErrFormat, b.Previous.Epoch, b.Current.Epoch)
	}
	for _, e := range []*epochBody{&b.Current, &b.Previous} {
		if len(e.Locator) != SignatureSize || len(e.KEM) != KEMPublicSize {
			return fmt.Errorf("%w: locator of %d bytes, X-Wing key of %d", ErrFormat, len(e.Locator), len(e.KEM))
		}
	}
	return nil
}

func (e *epochBody) key(id ID) EpochKey {
	return EpochKey{Epoch: e.Epoch, Locator: e.Locator, KEM: e.KEM, Tag: TagOf(id, e.Locator)}
}
