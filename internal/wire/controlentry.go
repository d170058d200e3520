package wire

import "encoding/binary"

// AppendControlRecord writes a record's entry behind dst: form u8 ‖ record.
func AppendControlRecord(dst, record []byte) []byte {
	return append(append(dst, byte(ControlRecord)), record...)
}

// AppendControlRevocations writes a revocation list's entry behind dst: form u8 ‖ list.
func AppendControlRevocations(dst, list []byte) []byte {
	return append(append(dst, byte(ControlRevocations)), list...)
}

// ParseControlBlob reads the entry that AppendControlRecord or AppendControlRevocations wrote, as form
// says. The result is a window of b.
func ParseControlBlob(b []byte, form ControlForm) ([]byte, error) {
	switch {
	case len(b) < 2:
		return nil, ErrShort
	case ControlForm(b[0]) != form:
		return nil, ErrForm
	}
	return b[1:len(b):len(b)], nil
}

// AppendControlIndex writes an entry of an index behind dst: form u8 ‖ anchor id (32).
func AppendControlIndex(dst []byte, id [32]byte) []byte {
	return append(append(dst, byte(ControlIndex)), id[:]...)
}

// ParseControlIndex reads an entry of an index.
func ParseControlIndex(b []byte) (id [32]byte, err error) {
	switch {
	case len(b) < 1+len(id):
		return id, ErrShort
	case ControlForm(b[0]) != ControlIndex:
		return id, ErrForm
	case len(b) > 1+len(id):
		return id, ErrTooLong
	}
	return [32]byte(b[1:]), nil
}

// ControlPresence is the plaintext of a presence entry:
//
//	form u8 ‖ anchor id (32) ‖ record counter u64 ‖ signature (2,420)
//
// The session nonce stands in the clear header.
type ControlPresence struct {
	ID        [32]byte
	Counter   uint64
	Signature []byte
}

const controlPresenceFixed = 1 + 32 + 8

// AppendUnsigned writes all but the signature behind dst.
func (p *ControlPresence) AppendUnsigned(dst []byte) []byte {
	dst = append(dst, byte(ControlAlive))
	dst = append(dst, p.ID[:]...)
	return binary.BigEndian.AppendUint64(dst, p.Counter)
}

// ParseControlPresence reads the plaintext of a presence entry, and returns the part that its
// signature covers. The result's slices are windows of b.
func ParseControlPresence(b []byte) (p ControlPresence, signed []byte, err error) {
	switch {
	case len(b) < controlPresenceFixed+SignatureSize:
		return ControlPresence{}, nil, ErrShort
	case ControlForm(b[0]) != ControlAlive:
		return ControlPresence{}, nil, ErrForm
	case len(b) > controlPresenceFixed+SignatureSize:
		return ControlPresence{}, nil, ErrTooLong
	}
	signed, p.Signature = cut(b, controlPresenceFixed)
	p.ID = [32]byte(b[1:33])
	p.Counter = binary.BigEndian.Uint64(b[33:41])
	return p, signed, nil
}
