package wire

import (
	"encoding/binary"
	"errors"
)

// What an anchor gives the Master, be it a message or an entry of the directory, is a clear
// header and a sealed body:
//
//	version u8 ‖ secret generation u32 ‖ session nonce (32) ‖ counter u64 ‖ sealed body
//
// The body's key is derived from the realm secret of that generation and the session nonce; its
// nonce is 4 zero bytes ‖ counter. Its plaintext begins with a ControlForm.

// ControlHeaderSize is the length in bytes of a control header.
const ControlHeaderSize = 1 + 4 + len(Nonce{}) + 8

// MaxControl is the longest control message in bytes: what a message to one anchor with the
// longest body and a record comes to.
const MaxControl = ControlHeaderSize + SealOverhead + controlDirectFixed + maxControlRecord +
	SealOverhead + MaxControlBody + SignatureSize

// MaxControlBody is the longest body of a control message in bytes: a whole message of the
// protocol, envelope included.
const MaxControlBody = MaxMessage

// maxControlRecord is the longest record that a control message carries; see
// identity.MaxRecordSize.
const maxControlRecord = 18432

// ErrForm says that a control body is of another form than the place where it was found calls for.
var ErrForm = errors.New("wire: unexpected form of control body")

// A ControlForm says what the plaintext of a control body is.
type ControlForm uint8

// The forms. Those from ControlRecord on are entries of the directory.
const (
	ControlToOne       ControlForm = 1 // ControlDirect
	ControlToAll       ControlForm = 2 // ControlBroadcast
	ControlRecord      ControlForm = 3 // a record as package identity encodes it
	ControlIndex       ControlForm = 4 // the id of an anchor
	ControlAlive       ControlForm = 5 // ControlPresence
	ControlRevocations ControlForm = 6 // a revocation list as package identity encodes it
)

// ControlHeader is the clear part of what an anchor gives the Master.
type ControlHeader struct {
	Generation uint32 // of the realm secret
	Session    Nonce  // of the sender
	Counter    uint64 // never twice in a session
}

// Append writes the header behind dst.
func (h *ControlHeader) Append(dst []byte) []byte {
	dst = append(dst, Version)
	dst = binary.BigEndian.AppendUint32(dst, h.Generation)
	dst = append(dst, h.Session[:]...)
	return binary.BigEndian.AppendUint64(dst, h.Counter)
}

// ParseControlHeader reads the header of b and returns the sealed body, a window of b. It
// returns ErrShort, ErrTooLong or ErrVersion.
func ParseControlHeader(b []byte) (h ControlHeader, body []byte, err error) {
	switch {
	case len(b) > MaxControl:
		return ControlHeader{}, nil, ErrTooLong
	case len(b) < ControlHeaderSize+SealOverhead+1:
		return ControlHeader{}, nil, ErrShort
	case b[0] != Version:
		return ControlHeader{}, nil, ErrVersion
	}
	h.Generation = binary.BigEndian.Uint32(b[1:5])
	h.Session = Nonce(b[5:37])
	h.Counter = binary.BigEndian.Uint64(b[37:ControlHeaderSize])
	return h, b[ControlHeaderSize:len(b):len(b)], nil
}
