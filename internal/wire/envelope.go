// Package wire holds every byte layout of protocol version 1 but the CBOR objects, which
// package identity owns: it encodes and decodes, and knows no keys, no clock and no I/O.
// Integers are big endian. Decoders never panic, keep no reference to what they were given
// unless they say so, and reject what an encoder would not have written.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the protocol version in the first byte of everything.
const Version = 1

// MaxMessage is the largest message in bytes, envelope included.
const MaxMessage = 65535

// EnvelopeSize is the length in bytes of an envelope, all that a relay reads.
const EnvelopeSize = 44

// A Kind says what a message's body is.
type Kind uint8

// The kinds of message.
const (
	KindData   Kind = 1
	KindOpen   Kind = 2
	KindAccept Kind = 3
	KindAck    Kind = 4
	KindClose  Kind = 5
	KindProbe  Kind = 6
	KindSignal Kind = 7
)

// String returns the kind's name.
func (k Kind) String() string {
	names := [...]string{KindData: "data", KindOpen: "open", KindAccept: "accept", KindAck: "ack", KindClose: "close", KindProbe: "probe", KindSignal: "signal"}
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Flags of an envelope. Both are hints that a relay may set or read; no seal covers them.
const (
	// FlagDetour says that a relay sent the message on a detour; another is forbidden.
	FlagDetour = 1 << 0
	// FlagProbe marks a copy sent to measure a path.
	FlagProbe = 1 << 1
)

// MaxHopLimit is the largest hop limit; an origin starts at up to 3 below it, so that a
// neighbour cannot tell an origin from a relay.
const MaxHopLimit = 16

// Tag names a destination without naming the anchor to those who do not know it: the hash
// of its id and its locator signature.
type Tag [16]byte

// StreamID names one direction of a stream.
type StreamID [16]byte

// Nonce is a session nonce, drawn at each start of an anchor.
type Nonce [32]byte

// Envelope is the header of a message.
type Envelope struct {
	Kind     Kind
	HopLimit uint8
	Flags    uint8
	Tag      Tag
	Stream   StreamID
	Number   uint64
}

// Errors of ParseEnvelope. Each is counted apart by who receives messages.
var (
	ErrShort    = errors.New("wire: message is shorter than its layout")
	ErrVersion  = errors.New("wire: unknown protocol version")
	ErrKind     = errors.New("wire: unknown kind of message")
	ErrFlags    = errors.New("wire: reserved flag set")
	ErrHopLimit = errors.New("wire: hop limit out of range")
	ErrTooLong  = errors.New("wire: message is longer than 65,535 bytes")
	ErrLayout   = errors.New("wire: malformed body")
	ErrSuite    = errors.New("wire: unknown cryptographic suite")
)

// Put writes the envelope to the first EnvelopeSize bytes of b, which must be as long.
func (e *Envelope) Put(b []byte) {
	_ = b[EnvelopeSize-1]
	b[0], b[1], b[2], b[3] = Version, byte(e.Kind), e.HopLimit, e.Flags
	copy(b[4:20], e.Tag[:])
	copy(b[20:36], e.Stream[:])
	binary.BigEndian.PutUint64(b[36:44], e.Number)
}

// ParseEnvelope reads the envelope of message m and checks everything that can be checked
// without a key: length, version, kind, flags, and a hop limit of 0 to MaxHopLimit.
func ParseEnvelope(m []byte) (Envelope, error) {
	switch {
	case len(m) < EnvelopeSize:
		return Envelope{}, ErrShort
	case len(m) > MaxMessage:
		return Envelope{}, ErrTooLong
	case m[0] != Version:
		return Envelope{}, ErrVersion
	case m[1] < byte(KindData) || m[1] > byte(KindSignal):
		return Envelope{}, ErrKind
	case m[3]&^(FlagDetour|FlagProbe) != 0:
		return Envelope{}, ErrFlags
	case m[2] > MaxHopLimit:
		return Envelope{}, ErrHopLimit
	}
	return Envelope{
		Kind: Kind(m[1]), HopLimit: m[2], Flags: m[3],
		Tag: Tag(m[4:20]), Stream: StreamID(m[20:36]),
		Number: binary.BigEndian.Uint64(m[36:44]),
	}, nil
}

// Masked returns the first EnvelopeSize bytes of m with hop limit and flags zeroed: the
// additional data of every seal.
func Masked(m []byte) [EnvelopeSize]byte {
	var a [EnvelopeSize]byte
	copy(a[:], m[:EnvelopeSize])
	a[2], a[3] = 0, 0
	return a
}
