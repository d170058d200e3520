package wire

import (
	"encoding/binary"
	"fmt"
)

// controlDirectFixed is the length of a ControlDirect without record, box and signature.
const controlDirectFixed = 1 + 1 + 32 + 32 + len(Nonce{}) + len(Tag{}) + CiphertextSize + 2

// ControlDirectOverhead is what a message to one anchor adds to its body, in bytes, header and
// seals included but not the record that it may carry.
const ControlDirectOverhead = ControlHeaderSize + SealOverhead + controlDirectFixed + SealOverhead + SignatureSize

// controlBroadcastFixed is the length of a ControlBroadcast without body and signature.
const controlBroadcastFixed = 1 + 1 + 32

// ControlBroadcastOverhead is what a message to all adds to its body, in bytes.
const ControlBroadcastOverhead = ControlHeaderSize + SealOverhead + controlBroadcastFixed + SignatureSize

// ControlDirect is the plaintext of a control message to one anchor:
//
//	form u8 ‖ topic u8 ‖ sender (32) ‖ receiver (32) ‖ receiver's session nonce (32) ‖ tag (16) ‖
//	ciphertext (1,120) ‖ length u16 ‖ sender's record ‖ box ‖ signature (2,420)
//
// The box is the message's body, sealed once more to the epoch key of the receiver that the tag
// names, so that other members cannot read it.
type ControlDirect struct {
	Topic           uint8
	Sender          [32]byte
	Receiver        [32]byte
	ReceiverSession Nonce
	Tag             Tag
	Ciphertext      []byte // X-Wing, to the receiver's epoch key
	Record          []byte // the sender's; empty if the receiver is known to have it
	Box             []byte
	Signature       []byte
}

// AppendUnsigned writes all but the signature behind dst. Ciphertext must have its size and Record
// at most 18,432 bytes.
func (d *ControlDirect) AppendUnsigned(dst []byte) []byte {
	dst = append(dst, byte(ControlToOne), d.Topic)
	dst = append(dst, d.Sender[:]...)
	dst = append(dst, d.Receiver[:]...)
	dst = append(dst, d.ReceiverSession[:]...)
	dst = append(dst, d.Tag[:]...)
	dst = append(dst, d.Ciphertext[:CiphertextSize]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(d.Record)))
	dst = append(dst, d.Record...)
	return append(dst, d.Box...)
}

// ParseControlDirect reads the plaintext of a control message to one anchor, and returns the part
// that its signature covers. The result's slices are windows of b.
func ParseControlDirect(b []byte) (d ControlDirect, signed []byte, err error) {
	if len(b) < controlDirectFixed+SealOverhead+SignatureSize {
		return ControlDirect{}, nil, ErrShort
	}
	if ControlForm(b[0]) != ControlToOne {
		return ControlDirect{}, nil, ErrForm
	}
	signed, d.Signature = cut(b, len(b)-SignatureSize)
	d.Topic = b[1]
	d.Sender = [32]byte(b[2:34])
	d.Receiver = [32]byte(b[34:66])
	d.ReceiverSession = Nonce(b[66:98])
	d.Tag = Tag(b[98:114])
	var rest []byte
	d.Ciphertext, rest = cut(signed[114:], CiphertextSize)
	n := int(binary.BigEndian.Uint16(rest))
	if rest = rest[2:]; n > maxControlRecord || n > len(rest)-SealOverhead {
		return ControlDirect{}, nil, fmt.Errorf("control: record of %d bytes in %d: %w", n, len(rest), ErrLayout)
	}
	d.Record, d.Box = cut(rest, n)
	if len(d.Box) > MaxControlBody+SealOverhead {
		return ControlDirect{}, nil, fmt.Errorf("control: box of %d bytes: %w", len(d.Box), ErrLayout)
	}
	return d, signed, nil
}

// ControlBroadcast is the plaintext of a control message to all:
//
//	form u8 ‖ topic u8 ‖ sender (32) ‖ body ‖ signature (2,420)
type ControlBroadcast struct {
	Topic     uint8
	Sender    [32]byte
	Body      []byte
	Signature []byte
}

// AppendUnsigned writes all but the signature behind dst.
func (m *ControlBroadcast) AppendUnsigned(dst []byte) []byte {
	dst = append(dst, byte(ControlToAll), m.Topic)
	dst = append(dst, m.Sender[:]...)
	return append(dst, m.Body...)
}

// ParseControlBroadcast reads the plaintext of a control message to all, and returns the part that
// its signature covers. The result's slices are windows of b.
func ParseControlBroadcast(b []byte) (m ControlBroadcast, signed []byte, err error) {
	switch {
	case len(b) < controlBroadcastFixed+SignatureSize:
		return ControlBroadcast{}, nil, ErrShort
	case ControlForm(b[0]) != ControlToAll:
		return ControlBroadcast{}, nil, ErrForm
	case len(b) > controlBroadcastFixed+MaxControlBody+SignatureSize:
		return ControlBroadcast{}, nil, ErrTooLong
	}
	signed, m.Signature = cut(b, len(b)-SignatureSize)
	m.Topic = b[1]
	m.Sender = [32]byte(b[2:34])
	m.Body = signed[controlBroadcastFixed:]
	return m, signed, nil
}
