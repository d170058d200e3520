// Package buffer pools the byte buffers that packets and messages live in while they
// pass through the stages, so that the hot path allocates nothing.
//
// A Buf is a window of bytes in a larger block, with head-room before it and tail-room
// behind it: a stage writes its header in front of what it was given, in place.
//
// # Ownership
//
// A Buf has a reference count, 1 after Get. Whoever passes a Buf on passes its reference
// on with it, unless the function's comment says otherwise; whoever ends a reference calls
// Release. The bytes of a Buf that others hold too (Retain) must not be changed, with the
// one exception that the protocol names: hop limit and flags of an envelope.
package buffer

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Headroom is the number of bytes free before the window of a new Buf: enough for an
	// envelope, a data header of 25 packets and what a packet device asks for.
	Headroom = 192
	// Tailroom is the least number of bytes free behind the size asked for: enough for an
	// AEAD tag.
	Tailroom = 64
	// MaxSize is the largest size that Get serves: the largest message, and the largest
	// IP packet.
	MaxSize = 65535
)

// classes are the block sizes kept in pools: a small packet, an Ethernet-sized one or an
// acknowledgement, a signed small message, and the largest message.
var classes = [...]int{512, 2048, 8192, 20480, Headroom + MaxSize + Tailroom}

var pools [len(classes)]sync.Pool

// Buf is a reference-counted window of bytes in a pooled block. Its methods are not safe
// for concurrent use, Retain and Release excepted.
type Buf struct {
	// Born is when the packet, or the oldest packet of the message, was read at its source.
	// The zero value means that the age is not known.
	Born time.Time

	block []byte
	start int
	end   int
	class int
	refs  atomic.Int32
}

// Get returns an empty Buf with Headroom bytes before its window and room for at least size
// bytes and Tailroom behind. It panics if size exceeds MaxSize: sizes are checked where
// bytes come in.
func Get(size int) *Buf {
	if size > MaxSize {
		panic("buffer: size above MaxSize")
	}
	need := Headroom + size + Tailroom
	for c, n := range classes {
		if n < need {
			continue
		}
		b, _ := pools[c].Get().(*Buf)
		if b == nil {
			b = &Buf{block: make([]byte, n), class: c}
		}
		b.start, b.end = Headroom, Headroom
		b.Born = time.Time{}
		b.refs.Store(1)
		return b
	}
	panic("buffer: no class is large enough") // not reachable: the last class holds MaxSize
}

// Bytes returns the window. It is valid until the last Release.
func (b *Buf) Bytes() []byte { return b.block[b.start:b.end:b.end] }

// Len is the length of the window in bytes.
func (b *Buf) Len() int { return b.end - b.start }

// Room is the number of bytes that Extend can still add behind the window.
func (b *Buf) Room() int { return len(b.block) - b.end }

// Front is the number of bytes that Prepend can still add before the window.
func (b *Buf) Front() int { return b.start }

// Extend grows the window by n bytes at its end and returns them, with what the block held
// before. It panics if Room is smaller.
func (b *Buf) Extend(n int) []byte {
	s := b.block[b.end : b.end+n : b.end+n]
	b.end += n
	return s
}

// Append copies p behind the window. It panics if Room is smaller than len(p).
func (b *Buf) Append(p []byte) { copy(b.Extend(len(p)), p) }

// Prepend grows the window by n bytes at its front and returns them. It panics if Front is
// smaller, and the window is then as it was.
func (b *Buf) Prepend(n int) []byte {
	s := b.block[b.start-n : b.start : b.start]
	b.start -= n
	return s
}

// TrimFront takes n bytes from the front of the window, at most all.
func (b *Buf) TrimFront(n int) { b.start += min(n, b.Len()) }

// Truncate shortens the window to n bytes; it never makes it longer.
func (b *Buf) Truncate(n int) { b.end = b.start + min(n, b.Len()) }

// Block returns the whole block and where the window starts in it, for packet devices that
// take a buffer and an offset. Use SetWindow to say what was written.
func (b *Buf) Block() (block []byte, offset int) { return b.block, b.start }

// SetWindow makes the window the n bytes from offset start of the block. It panics if they
// are not all in the block.
func (b *Buf) SetWindow(start, n int) {
	_ = b.block[start : start+n]
	b.start, b.end = start, start+n
}

// Retain adds a reference and returns b. It is safe for concurrent use while the caller
// holds a reference; it panics when nobody does, which is a fault of the caller.
func (b *Buf) Retain() *Buf {
	if b.refs.Add(1) <= 1 {
		panic("buffer: retained after the last release")
	}
	return b
}

// Release ends a reference; after the last the block goes back to its pool and must not be
// touched. It panics when there was none left, which is a fault of the caller.
func (b *Buf) Release() {
	switch n := b.refs.Add(-1); {
	case n == 0:
		pools[b.class].Put(b)
	case n < 0:
		panic("buffer: released too often")
	}
}
