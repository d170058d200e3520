package tether

import (
	"context"
	"errors"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
)

// ErrDown is in the chain of errors that say that a tether to a neighbour died or never
// came up.
var ErrDown = errors.New("tether: neighbour is down")

// Neighbor is an anchor that this one has a live tether to: an authenticated peer at the
// other end of one or more WebRTC links. It is what package route sends through. All methods
// are safe for concurrent use.
type Neighbor interface {
	// ID is the neighbour's authenticated anchor id.
	ID() identity.ID

	// Session is the session nonce that the neighbour's hello showed.
	Session() identity.Nonce

	// WaitRoom waits until a link has room for a message. It returns ErrDown (wrapped) when
	// the tether dies and the context's cause when ctx ends first.
	WaitRoom(ctx context.Context) error

	// Send hands a whole message, envelope included, to a link, and waits for room as long
	// as ctx allows. It takes over the caller's reference of m in every case. A nil error
	// means that a link has taken the message, not that it arrived.
	Send(ctx context.Context, m *buffer.Buf) error

	// Info describes the tether at this moment.
	Info() Info

	// Done is closed when the tether has died; a later one to the same anchor is another
	// Neighbor.
	Done() <-chan struct{}
}

// PathKind says how the bytes of a tether travel.
type PathKind uint8

// The kinds of path.
const (
	// PathNone is the zero value: no link.
	PathNone PathKind = iota
	// PathDirect is a peer-to-peer link.
	PathDirect
	// PathRelayed is a link through a TURN server.
	PathRelayed
)

// String returns "none", "direct" or "relayed".
func (k PathKind) String() string {
	switch k {
	case PathDirect:
		return "direct"
	case PathRelayed:
		return "relayed"
	}
	return "none"
}

// Info describes a tether at one moment.
type Info struct {
	Path   PathKind
	Links  int           // usable links
	Since  time.Time     // when the tether came up
	Heard  time.Time     // when the last authenticated bytes arrived
	RTT    time.Duration // smoothed, from heartbeats; 0 while unknown
	MinRTT time.Duration // least seen in 10 s; 0 while unknown
	Sent   uint64        // message bytes handed to links
	Got    uint64        // message bytes received
	Local  string        // local transport address of the selected pair, for people to read
	Remote string        // remote transport address of the selected pair
}

// Receiver takes what arrives over tethers. A Manager calls Up before the first Receive of a
// neighbour and Down after the last.
type Receiver interface {
	// Up says that a tether to n is usable.
	Up(n Neighbor)
	// Receive takes a message, envelope included, and its reference. It runs in the link's
	// read loop and must not wait for anything that depends on sending (invariant 3).
	Receive(from Neighbor, m *buffer.Buf)
	// Down says that the tether is gone.
	Down(n Neighbor)
}
