package route

import (
	"context"
	"errors"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/tether"
)

// ErrUnreachable is in the chain of errors that say that no next hop toward a destination is
// usable.
var ErrUnreachable = errors.New("route: destination is unreachable")

// Destination is where a message is to go: an anchor and the tag that its messages bear. An
// anchor changes its tag every epoch, so a stream keeps the Destination it was opened with.
type Destination struct {
	ID identity.ID
	// Tag is the hash of ID and Locator, as the envelope bears it.
	Tag identity.Tag
	// Locator is the destination's own signature over realm, id and epoch, taken from its
	// verified record: the cryptographic signature that identifies the final destination.
	Locator []byte
}

// Descriptor is a route as this anchor knows it: the next hop, and the signature that
// identifies the final destination. The whole path is never written down. On the wire the
// signature stands as its hash, the tag. A Descriptor comes from Forwarder.Pick.
type Descriptor struct {
	NextHop     identity.ID
	Destination *Destination
	// Reason says why the hop was chosen, for people to read.
	Reason Reason

	hop tether.Neighbor
}

// Request says what Pick is asked to carry. The zero value asks for room for an empty
// message of no particular flow.
type Request struct {
	// Size is the length of the message in bytes, envelope included.
	Size int
	// Flow keeps messages of one value on one hop while that hop is good, so that their
	// packets stay in order. Values need no meaning beyond equality.
	Flow uint64
	// Avoid is a hop to pass over if another is feasible: a message that was lost by one hop
	// is sent again by another. Zero avoids none.
	Avoid identity.ID
}

// Forwarder picks next hops and hands messages to them. It is what package stream sends
// through. All methods are safe for concurrent use.
type Forwarder interface {
	// Pick chooses a next hop toward to and waits until it has room; a tether that does not
	// exist yet is set up meanwhile. It returns ErrUnreachable (wrapped, with the cause) if no
	// way can be found, and the context's cause when ctx ends first.
	Pick(ctx context.Context, to *Destination, r Request) (Descriptor, error)

	// Send hands message m, envelope included, to the next hop that Pick chose, and waits
	// for room if another message took it. It takes over the caller's reference of m in
	// every case. After an error the message may be sent again, unchanged, over another
	// Pick; a nil error does not mean that it arrived.
	Send(ctx context.Context, d Descriptor, m *buffer.Buf) error

	// Observe tells the preference what became of messages sent by a hop. It never waits.
	Observe(o Observation)
}

// Local takes what concerns this anchor itself. It is implemented by stream.Endpoint. Calls
// come from links' read loops and must not wait.
type Local interface {
	// IsLocal reports whether tag names this anchor, now or in the epoch before.
	IsLocal(tag identity.Tag) bool
	// Receive takes a message for this anchor and its reference, with the neighbour that
	// handed it over.
	Receive(from identity.ID, m *buffer.Buf)
	// NeighborUp says that a tether to an anchor came up with this session nonce: what
	// belongs to another session of that anchor has ended.
	NeighborUp(id identity.ID, session identity.Nonce)
	// NeighborDown says that the tether died: what left by it and is not acknowledged is lost.
	NeighborDown(id identity.ID)
}
