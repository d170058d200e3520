package stream

import (
	"context"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// Sender is the sending end toward one anchor, as package egress sees it: it opens a stream
// when the first batch comes, and rotates it. All methods are safe for concurrent use.
type Sender interface {
	// Send signs and seals a batch as one message and hands it to a next hop. It waits, in
	// this order, for the stream to open, for its window and for a next hop with room, as long
	// as ctx allows, and takes over b in every case.
	Send(ctx context.Context, b *Batch) error

	// Close ends the use of the Sender; the last use closes the stream.
	Close()
}

// Acceptor makes the receiving end of inbound streams. It is implemented by package ingress.
type Acceptor interface {
	// Accept is called once for each inbound stream, after its first valid data message, and
	// returns where its messages go. It must not wait.
	Accept(in Inbound) Sink
}

// Inbound opens the messages of one inbound stream. All methods are safe for concurrent use.
type Inbound interface {
	// ID is the stream's id.
	ID() wire.StreamID
	// Predecessor is the id of the stream that this one takes over from; zero if none.
	Predecessor() wire.StreamID
	// Peer is the certificate of the anchor that seals this stream's messages.
	Peer() *identity.Certificate
	// Open decrypts message m in place and verifies it: replay window, key, signature. The
	// packets of the result are windows of m. Failures are counted here by cause. The
	// caller keeps its reference of m.
	Open(m *buffer.Buf) (Data, error)
	// Consumed says that messages of size bytes together, envelopes included, have left the
	// Sink by delivery or otherwise, which opens the window as far again. Only messages that
	// Open has accepted count: others were never sent by the peer.
	Consumed(size int)
	// Missing reports a gap that the Sink sees, which is acknowledged at once.
	Missing()
}

// Data is an opened data message.
type Data struct {
	Number uint64 // of the message in its stream, from 0
	Floor  uint64 // numbers below it will not come any more
	Body   wire.DataBody
}

// Sink takes the messages of one inbound stream, still sealed, in order of arrival.
type Sink interface {
	// Push takes a message and its reference. It never waits; it reports false, and leaves the
	// reference to the caller, if the peer has sent more than its window.
	Push(m *buffer.Buf) bool
	// Pass says that number bears no data, and that numbers below floor will not come any more,
	// so that nobody waits for them. It never waits.
	Pass(number, floor uint64)
	// Final says that the stream ends with message number last-1.
	Final(last uint64)
	// Close ends the Sink at once; it does not wait for its goroutine.
	Close()
}
