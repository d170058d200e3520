package route

import (
	"context"
	"errors"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
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
// signature stands as its hash, the tag.
type Descriptor struct {
	NextHop     identity.ID
	Destination *Destination
}

// Forwarder picks next hops and hands messages to them. It is what package stream sends
// through. All methods are safe for concurrent use.
type Forwarder interface {
	// Pick chooses a next hop toward to and waits until it has room for a message of size
	// bytes; a tether that does not exist yet is set up meanwhile. It returns ErrUnreachable
	// (wrapped) if no way can be found, and the context's cause when ctx ends first.
	Pick(ctx context.Context, to *Destination, size int) (Descriptor, error)

	// Send hands message m, envelope included, to the next hop that Pick chose, and waits
	// for room if another message took it. It takes over the caller's reference of m in
	// every case. After an error the message may be sent again, unchanged, over another
	// Pick; a nil error does not mean that it arrived.
	Send(ctx context.Context, d Descriptor, m *buffer.Buf) error
}

// Local takes the messages that are for this anchor. It is implemented by stream.Endpoint.
type Local interface {
	// Receive takes a message and its reference, with the neighbour that handed it over. It
	// runs in a link's read loop and must not wait.
	Receive(from identity.ID, m *buffer.Buf)
	// IsLocal reports whether tag names this anchor, now or in the epoch before.
	IsLocal(tag identity.Tag) bool
	// NeighborSession says that a tether to an anchor came up with this session nonce: what
	// belongs to another session of that anchor has ended.
	NeighborSession(id identity.ID, session identity.Nonce)
}
