package stream

import (
	"sync"
	"time"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

const (
	// batchTail is what sealing puts behind the packets of a batch, at most.
	batchTail = wire.MaxSignatureBlock + wire.SealOverhead

	// MaxPacket is the largest packet that an empty Batch takes, in bytes.
	MaxPacket = wire.MaxMessage - wire.EnvelopeSize - (9 + 2) - batchTail

	// defaultBatch is the room for packets when the hint is 0: 25 of Ethernet's size.
	defaultBatch = wire.MaxPackets * 1500
)

// Batch is up to 25 packets laid out in one buffer for one message: each packet is copied
// once, by Add, and the rest of the message is written around them in place. A Batch comes
// from NewBatch, belongs to one goroutine at a time, and ends with Release or when it is
// sealed.
type Batch struct {
	buf     *buffer.Buf
	lengths [wire.MaxPackets]uint16
	count   int
}

var batches = sync.Pool{New: func() any { return new(Batch) }}

// NewBatch returns an empty Batch with room for about sizeHint bytes of packets; 0 means 25
// packets of 1,500 bytes. A larger content moves once to the largest buffer, so a hint that
// is too small costs a copy and nothing else.
func NewBatch(sizeHint int) *Batch {
	if sizeHint <= 0 {
		sizeHint = defaultBatch
	}
	b := batches.Get().(*Batch)
	b.buf = buffer.Get(min(sizeHint+batchTail, buffer.MaxSize))
	b.count = 0
	return b
}

// Add copies a packet behind the others. It reports false, and changes nothing, when the
// batch is full: 25 packets, or a message that could exceed 65,535 bytes with all that
// sealing adds. An empty packet is ignored; a packet larger than MaxPacket fits no batch.
func (b *Batch) Add(packet []byte) bool {
	if len(packet) == 0 {
		return true
	}
	if b.count == wire.MaxPackets || messageSize(b.count+1, b.buf.Len()+len(packet)) > wire.MaxMessage {
		return false
	}
	if b.buf.Room() < len(packet)+batchTail {
		b.grow()
	}
	b.buf.Append(packet)
	b.lengths[b.count] = uint16(len(packet))
	b.count++
	return true
}

// grow moves the packets to the largest buffer.
func (b *Batch) grow() {
	large := buffer.Get(buffer.MaxSize)
	large.Born = b.buf.Born
	large.Append(b.buf.Bytes())
	b.buf.Release()
	b.buf = large
}

// messageSize is the largest message that count packets of n bytes together can become.
func messageSize(count, n int) int {
	return wire.EnvelopeSize + wire.DataHeaderSize(count) + n + batchTail
}

// Count is the number of packets.
func (b *Batch) Count() int { return b.count }

// Bytes is the number of bytes of all packets.
func (b *Batch) Bytes() int { return b.buf.Len() }

// MaxSize is the size of the largest message that the batch can become, in bytes; the
// signature's place in its tree decides how much smaller the message is, at most 160 bytes.
func (b *Batch) MaxSize() int { return messageSize(b.count, b.buf.Len()) }

// Born is when the oldest packet was read at its source; zero if nobody said so.
func (b *Batch) Born() time.Time { return b.buf.Born }

// SetBorn says when a packet of the batch was read at its source. The oldest time counts; a
// zero time is ignored.
func (b *Batch) SetBorn(t time.Time) {
	if !t.IsZero() && (b.buf.Born.IsZero() || t.Before(b.buf.Born)) {
		b.buf.Born = t
	}
}

// Packet returns packet i of Count, a window of the batch.
func (b *Batch) Packet(i int) []byte {
	start := 0
	for _, n := range b.lengths[:i] {
		start += int(n)
	}
	end := start + int(b.lengths[:b.count][i])
	return b.buf.Bytes()[start:end:end]
}

// Release ends the batch with its packets unsent.
func (b *Batch) Release() {
	b.buf.Release()
	b.buf = nil
	batches.Put(b)
}

// take ends the batch and returns its buffer, the packets as its window, and writes the data
// header before them.
func (b *Batch) take(floor uint64) *buffer.Buf {
	m := b.buf
	wire.PutDataHeader(m.Prepend(wire.DataHeaderSize(b.count)), floor, b.lengths[:b.count])
	b.buf = nil
	batches.Put(b)
	return m
}
