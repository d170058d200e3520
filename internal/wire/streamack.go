package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

const (
	// MaxAckRanges is the largest number of ranges in an acknowledgement.
	MaxAckRanges = 64
	// MaxAckCopies is the largest number of copies that an acknowledgement reports.
	MaxAckCopies = 64
	// MaxAckBody is the length of the largest acknowledgement body in bytes.
	MaxAckBody = ackFixed + 1 + MaxAckRanges*8 + 1 + MaxAckCopies*12

	// ackFixed is the length of grant, cumulative and delay.
	ackFixed = 8 + 8 + 4
)

// AckRange is a run of messages that arrived above a gap: Gap messages are missing behind the
// range before (behind Cumulative for the first), then Length arrived. Both are at least 1.
type AckRange struct{ Gap, Length uint32 }

// AckCopy says how much later than the message itself its copy arrived, in microseconds;
// negative if the copy came first.
type AckCopy struct {
	Number uint64
	Offset int32
}

// AckBody is the plaintext of an acknowledgement: grant u64 ‖ cumulative u64 ‖ delay u32 us ‖
// n u8 ‖ n x (gap u32 ‖ length u32) ‖ m u8 ‖ m x (number u64 ‖ offset i32). It holds no
// slices, so that filling and parsing it allocates nothing.
type AckBody struct {
	// Grant is the number of message bytes, envelopes included, that the stream's sender may
	// send in all. It never falls.
	Grant uint64
	// Cumulative is the number below which every message arrived or was given up.
	Cumulative uint64
	// Delay is how long the receiver held the newest arrival, in microseconds.
	Delay uint32

	ranges  [MaxAckRanges]AckRange
	copies  [MaxAckCopies]AckCopy
	nranges uint8
	ncopies uint8
}

// Ranges returns the runs above Cumulative in ascending order. The slice is a window of a.
func (a *AckBody) Ranges() []AckRange { return a.ranges[:a.nranges] }

// Copies returns the reported copies. The slice is a window of a.
func (a *AckBody) Copies() []AckCopy { return a.copies[:a.ncopies] }

// AddRange appends a run; it reports false when there are MaxAckRanges.
func (a *AckBody) AddRange(gap, length uint32) bool {
	if a.nranges == MaxAckRanges {
		return false
	}
	a.ranges[a.nranges] = AckRange{gap, length}
	a.nranges++
	return true
}

// AddCopy appends a copy; it reports false when there are MaxAckCopies.
func (a *AckBody) AddCopy(number uint64, offset int32) bool {
	if a.ncopies == MaxAckCopies {
		return false
	}
	a.copies[a.ncopies] = AckCopy{number, offset}
	a.ncopies++
	return true
}

// Reset empties a.
func (a *AckBody) Reset() {
	a.Grant, a.Cumulative, a.Delay, a.nranges, a.ncopies = 0, 0, 0, 0, 0
}

// Size is the length of the body in bytes.
func (a *AckBody) Size() int { return ackFixed + 1 + 8*int(a.nranges) + 1 + 12*int(a.ncopies) }

// Append writes the body behind dst.
func (a *AckBody) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, a.Grant)
	dst = binary.BigEndian.AppendUint64(dst, a.Cumulative)
	dst = binary.BigEndian.AppendUint32(dst, a.Delay)
	dst = append(dst, a.nranges)
	for _, r := range a.Ranges() {
		dst = binary.BigEndian.AppendUint32(dst, r.Gap)
		dst = binary.BigEndian.AppendUint32(dst, r.Length)
	}
	dst = append(dst, a.ncopies)
	for _, c := range a.Copies() {
		dst = binary.BigEndian.AppendUint64(dst, c.Number)
		dst = binary.BigEndian.AppendUint32(dst, uint32(c.Offset))
	}
	return dst
}

// Parse reads the plaintext b of an acknowledgement into a. It allocates nothing unless b is
// malformed: too many ranges or copies, an empty gap or range, or numbers beyond 64 bits.
func (a *AckBody) Parse(b []byte) error {
	if len(b) < ackFixed+2 {
		return ErrShort
	}
	a.Grant = binary.BigEndian.Uint64(b)
	a.Cumulative = binary.BigEndian.Uint64(b[8:])
	a.Delay = binary.BigEndian.Uint32(b[16:])
	rest, err := a.parseRanges(b[ackFixed:])
	if err != nil {
		return err
	}
	return a.parseCopies(rest)
}

func (a *AckBody) parseRanges(b []byte) (rest []byte, err error) {
	a.nranges = 0
	n, b := int(b[0]), b[1:]
	if n > MaxAckRanges {
		return nil, fmt.Errorf("ack: %d ranges: %w", n, ErrLayout)
	}
	if len(b) < 8*n+1 {
		return nil, ErrShort
	}
	top := a.Cumulative
	for range n {
		r := AckRange{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
		span := uint64(r.Gap) + uint64(r.Length)
		if r.Gap == 0 || r.Length == 0 || span > math.MaxUint64-top {
			return nil, fmt.Errorf("ack: range %+v: %w", r, ErrLayout)
		}
		top += span
		a.AddRange(r.Gap, r.Length)
		b = b[8:]
	}
	return b, nil
}

func (a *AckBody) parseCopies(b []byte) error {
	a.ncopies = 0
	m, b := int(b[0]), b[1:]
	if m > MaxAckCopies {
		return fmt.Errorf("ack: %d copies: %w", m, ErrLayout)
	}
	if err := exact(b, 12*m); err != nil {
		return err
	}
	for range m {
		a.AddCopy(binary.BigEndian.Uint64(b), int32(binary.BigEndian.Uint32(b[8:])))
		b = b[12:]
	}
	return nil
}

// Covers reports whether the acknowledgement says that message number arrived, or was given
// up.
func (a *AckBody) Covers(number uint64) bool {
	if number < a.Cumulative {
		return true
	}
	low := a.Cumulative
	for _, r := range a.Ranges() {
		if low += uint64(r.Gap); number < low {
			return false
		}
		if low += uint64(r.Length); number < low {
			return true
		}
	}
	return false
}

// Top is the number above the newest that the acknowledgement covers.
func (a *AckBody) Top() uint64 {
	top := a.Cumulative
	for _, r := range a.Ranges() {
		top += uint64(r.Gap) + uint64(r.Length)
	}
	return top
}
