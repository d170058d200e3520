package wire

import (
	"encoding/binary"
	"fmt"
)

// CloseBodySize is the length of the body of every close in bytes.
const CloseBodySize = 8

// CloseBody is the plaintext of a close: final u64. The messages of the stream have numbers
// below it.
type CloseBody struct{ Final uint64 }

// Append writes the body behind dst.
func (c CloseBody) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(dst, c.Final)
}

// ParseCloseBody reads the plaintext of a close.
func ParseCloseBody(b []byte) (CloseBody, error) {
	if err := exact(b, CloseBodySize); err != nil {
		return CloseBody{}, err
	}
	return CloseBody{Final: binary.BigEndian.Uint64(b)}, nil
}

// MaxProbeRecord is the largest record that fits a probe.
const MaxProbeRecord = MaxMessage - EnvelopeSize - probeFixed - SealOverhead

// probeFixed is the length of floor and record length.
const probeFixed = 8 + 2

// ProbeBody is the plaintext of a probe, which asks for an acknowledgement at once: floor
// u64 ‖ length u16 ‖ record. The record, if there is one, is the sender's new one at an
// epoch change.
type ProbeBody struct {
	Floor  uint64
	Record []byte
}

// Size is the length of the body in bytes.
func (p *ProbeBody) Size() int { return probeFixed + len(p.Record) }

// Append writes the body behind dst. Record must be at most MaxProbeRecord long.
func (p *ProbeBody) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.Floor)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.Record)))
	return append(dst, p.Record...)
}

// ParseProbeBody reads the plaintext of a probe. Record is a window of b, nil if there is
// none.
func ParseProbeBody(b []byte) (ProbeBody, error) {
	if len(b) < probeFixed {
		return ProbeBody{}, ErrShort
	}
	p := ProbeBody{Floor: binary.BigEndian.Uint64(b)}
	n := int(binary.BigEndian.Uint16(b[8:]))
	if n != len(b)-probeFixed {
		return ProbeBody{}, fmt.Errorf("probe: record of %d bytes in a body of %d: %w", n, len(b), ErrLayout)
	}
	if n > 0 {
		p.Record = b[probeFixed:len(b):len(b)]
	}
	return p, nil
}
