package tether

import (
	"fmt"
	"log/slog"

	"github.com/pion/transport/v5"

	"github.com/veil-net/anchor/internal/wire"
)

// link is one WebRTC association with one reliable unordered data channel: the small seam
// behind which an implementation can be replaced. A tether has one; a pool of several is a
// change in tether.go alone.
//
// The signalling half is called by one goroutine, in this order: [describe], then offer and
// accept, or answer; add at any time after accept or answer. The data half is for two more,
// a reader and a writer, once state is linkOpen. Everything else is safe for concurrent use.
type link interface {
	// describe returns what offer or answer is going to say. A browser cannot know before:
	// then ok is false.
	describe() (d wire.Description, ok bool)
	// offer makes this end the offerer, who opens the data channel, and starts gathering.
	offer() (wire.Description, error)
	// accept gives the offerer the answerer's description; it connects from then on.
	accept(wire.Description) error
	// answer makes this end the answerer, starts gathering, and connects.
	answer(wire.Description) (wire.Description, error)
	// add adds a candidate of the peer.
	add(wire.Candidate) error
	// candidates returns those gathered so far, oldest first, and whether that is all.
	candidates() (cs []wire.Candidate, complete bool)

	// state says how far the link is. A change calls the notify function that the link was
	// made with.
	state() linkState
	// read waits for a message and copies it to p. A message longer than p is kept, and the
	// error is io.ErrShortBuffer.
	read(p []byte) (int, error)
	// write waits until what was written before is under way and takes message p, whose bytes
	// it does not keep.
	write(p []byte) error
	// heard counts the authenticated bytes that came, those of acknowledgements below us too.
	heard() uint64
	// path describes the way that the bytes take now.
	path() (kind PathKind, local, remote string)

	// close ends the link in any state: a blocked read or write returns an error within
	// 1 s. It returns when the link's goroutines have ended. Never call it from notify.
	close()
}

// linkState says how far a link is.
type linkState uint8

const (
	linkNew  linkState = iota // gathering, checking, handshaking
	linkOpen                  // the data channel is open
	linkDead                  // failed or closed, by either end
)

// linkMaker makes links. notify is called after a change of state or of candidates, from any
// goroutine; it must not wait or call the link.
type linkMaker interface {
	newLink(notify func()) (link, error)
}

// linkOptions is what a linkMaker is made with.
type linkOptions struct {
	servers  []ICEServer
	loopback bool
	usable   addrFilter
	net      transport.Net // nil: the kernel's
	log      *slog.Logger
}

const (
	// sctpBuffer is the receive window in bytes: 1 Gbit/s at 100 ms takes 12.5 MB.
	sctpBuffer = 16 << 20
	// channelLabel and channelProtocol are of the one data channel of a link.
	channelLabel, channelProtocol = "tether", "anchor/1"
)

// ICEServer is a STUN or TURN server.
type ICEServer struct {
	// URLs such as "stun:stun.example.net:3478", "turn:turn.example.net?transport=udp",
	// "turns:turn.example.net:5349" (RFC 7064, RFC 7065).
	URLs []string
	// Username and Credential are for TURN (long-term credentials); empty for STUN.
	Username, Credential string
}

// ValidateICEServers reports what is wrong with the servers' URLs or credentials, or nil. It does
// no I/O.
func ValidateICEServers(servers []ICEServer) error {
	m, err := newLinkMaker(linkOptions{servers: servers, net: noNet{}, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	l, err := m.newLink(func() {})
	if err != nil {
		return fmt.Errorf("tether: ICE servers: %w", err)
	}
	l.close()
	return nil
}

// noNet is the network of links that never gather.
type noNet struct{ transport.Net }
