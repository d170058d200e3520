package wire

import (
	"encoding/binary"
	"fmt"
)

// openBoxFixed is the length of an open's box plaintext without the record.
const openBoxFixed = 2 + KEMPublicSize + len(StreamID{}) + SignatureSize

// MaxRecord is the largest initiator record that fits an open.
const MaxRecord = MaxMessage - EnvelopeSize - openPrefix - openBoxFixed - SealOverhead

// openPrefix is the length of an open's body before the box.
const openPrefix = 1 + CiphertextSize

// OpenBody is the body of an open: suite u8 ‖ ciphertext (1,120) ‖ box.
type OpenBody struct {
	Suite      uint8
	Ciphertext []byte // X-Wing, to the responder's epoch key
	Box        []byte // a sealed OpenBox
}

// Size is the length of the body in bytes.
func (o *OpenBody) Size() int { return openPrefix + len(o.Box) }

// Append writes the body behind dst. Ciphertext must have its size.
func (o *OpenBody) Append(dst []byte) []byte {
	dst = append(dst, o.Suite)
	dst = append(dst, o.Ciphertext[:CiphertextSize]...)
	return append(dst, o.Box...)
}

// ParseOpenBody reads the body of an open. The result's slices are windows of b. A suite that
// this version does not know gives ErrSuite.
func ParseOpenBody(b []byte) (OpenBody, error) {
	switch {
	case len(b) < 1:
		return OpenBody{}, ErrShort
	case b[0] != Suite:
		return OpenBody{}, ErrSuite
	case len(b) <= openPrefix+openBoxFixed+SealOverhead:
		return OpenBody{}, ErrShort
	}
	return OpenBody{Suite: b[0], Ciphertext: b[1:openPrefix:openPrefix], Box: b[openPrefix:len(b):len(b)]}, nil
}

// OpenPrefix is the part of an open's body that its box seals as additional data, behind the
// masked envelope.
func OpenPrefix(body []byte) []byte { return body[:openPrefix] }

// OpenBox is the plaintext of an open's box: length u16 ‖ initiator record ‖ ephemeral
// X-Wing key (1,216) ‖ predecessor (16, zero if none) ‖ signature (2,420).
type OpenBox struct {
	Record      []byte
	Ephemeral   []byte
	Predecessor StreamID
	Signature   []byte
}

// Size is the length of the plaintext in bytes.
func (o *OpenBox) Size() int { return openBoxFixed + len(o.Record) }

// Append writes the plaintext behind dst. Record must be 1 to MaxRecord long, Ephemeral and
// Signature must have their sizes.
func (o *OpenBox) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(o.Record)))
	dst = append(dst, o.Record...)
	dst = append(dst, o.Ephemeral[:KEMPublicSize]...)
	dst = append(dst, o.Predecessor[:]...)
	return append(dst, o.Signature[:SignatureSize]...)
}

// ParseOpenBox reads the plaintext of an open's box. The result's slices are windows of b.
func ParseOpenBox(b []byte) (OpenBox, error) {
	if len(b) < openBoxFixed {
		return OpenBox{}, ErrShort
	}
	n := int(binary.BigEndian.Uint16(b))
	if n == 0 || n != len(b)-openBoxFixed {
		return OpenBox{}, fmt.Errorf("open: record of %d bytes in a box of %d: %w", n, len(b), ErrLayout)
	}
	var o OpenBox
	o.Record, b = cut(b[2:], n)
	o.Ephemeral, b = cut(b, KEMPublicSize)
	o.Predecessor, b = StreamID(b[:16]), b[16:]
	o.Signature = b
	return o, nil
}

// cut splits b behind its first n bytes; neither part can grow into the other.
func cut(b []byte, n int) (head, rest []byte) { return b[:n:n], b[n:] }
