package wire

import (
	"encoding/binary"
	"fmt"
)

// MaxPackets is the largest number of packets in a data message.
const MaxPackets = 25

// MaxDataHeader is the length of the header of a data body with MaxPackets packets.
const MaxDataHeader = dataFixed + 2*MaxPackets

// dataFixed is the length of floor and count.
const dataFixed = 8 + 1

// DataHeaderSize is the length of the header of a data body with count packets.
func DataHeaderSize(count int) int { return dataFixed + 2*count }

// PutDataHeader writes floor u64 ‖ count u8 ‖ lengths u16 to b, which must be
// DataHeaderSize(len(lengths)) bytes long. lengths holds 1 to MaxPackets values, none zero.
func PutDataHeader(b []byte, floor uint64, lengths []uint16) {
	binary.BigEndian.PutUint64(b, floor)
	b[8] = byte(len(lengths))
	for i, n := range lengths {
		binary.BigEndian.PutUint16(b[dataFixed+2*i:], n)
	}
}

// DataBody is the plaintext of a data message: floor u64 ‖ count u8 (1-25) ‖ lengths u16
// each ‖ packets ‖ signature block. It keeps no copy: everything in it is a window of what
// was parsed. The zero value holds no packets. Reading it is safe for concurrent use.
type DataBody struct {
	// Floor is the number below which no message of the stream will come any more.
	Floor uint64
	// Signed is what the signature's leaf covers: the body before the signature block.
	Signed []byte
	// Block is the signature block.
	Block SignatureBlock

	packets []byte
	ends    [MaxPackets]uint16
	count   uint8
}

// Count is the number of packets.
func (d *DataBody) Count() int { return int(d.count) }

// Packet returns packet i of Count. It panics if there is none.
func (d *DataBody) Packet(i int) []byte {
	start := 0
	if i > 0 {
		start = int(d.ends[i-1])
	}
	end := int(d.ends[:d.count][i])
	return d.packets[start:end:end]
}

// Bytes is the number of bytes of all packets.
func (d *DataBody) Bytes() int { return len(d.packets) }

// Parse reads the plaintext b of a data message into d. It allocates nothing unless b is
// malformed.
func (d *DataBody) Parse(b []byte) error {
	if len(b) < dataFixed {
		return ErrShort
	}
	count := int(b[8])
	if count < 1 || count > MaxPackets {
		return fmt.Errorf("data: %d packets: %w", count, ErrLayout)
	}
	header := DataHeaderSize(count)
	if len(b) < header {
		return ErrShort
	}
	total := 0
	for i := range count {
		n := int(binary.BigEndian.Uint16(b[dataFixed+2*i:]))
		if n == 0 {
			return fmt.Errorf("data: packet %d is empty: %w", i, ErrLayout)
		}
		if total += n; total > len(b)-header || total > MaxMessage {
			return ErrShort
		}
		d.ends[i] = uint16(total)
	}
	block, err := ParseSignatureBlock(b[header+total:])
	if err != nil {
		return err
	}
	d.Floor = binary.BigEndian.Uint64(b)
	d.Signed = b[: header+total : header+total]
	d.Block = block
	d.packets = d.Signed[header:]
	d.count = uint8(count)
	return nil
}
