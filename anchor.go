// Package anchor puts an application on an encrypted overlay network without root. A Node
// dials and listens on overlay addresses with ordinary net.Conn, net.Listener, net.PacketConn
// and *http.Client; packets travel between anchors over WebRTC, every message is encrypted
// and signed with post-quantum cryptography, and what cannot be sent yet waits instead of
// being dropped.
//
// # Usage
//
//	id, err := identity.Load("alice.anchor", identity.LoadOptions{})
//	...
//	node, err := anchor.New(anchor.Config{
//		Identity: id,
//		Control:  control.NATS("nats://master.example:4222"),
//	})
//	...
//	defer node.Close()
//	resp, err := node.HTTPClient().Get("http://bob/")
//
// Dial, Listen and the other methods start the node if Start has not been called.
//
// # Who is who
//
// A realm is one trust domain, made by an identity.Authority that works offline. Each anchor
// runs with an identity file that the authority issued; its certificate is the only source of
// its name, addresses and groups. The Master, a NATS server, carries presence and signalling;
// it is not trusted and sees only sealed bytes. WhoIs tells whose certificate stands behind
// the remote address of a connection: the source address of every packet is checked against
// the key that sealed it, so RemoteAddr can be relied on.
//
// # Many nodes
//
// Nodes in one process share nothing. The package reads no environment, logs nothing unless
// Config.Logger is set, and touches no global.
package anchor

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/veil-net/anchor/identity"
)

// Node is one anchor: an application's presence on the overlay. Make it with New. All methods
// are safe for concurrent use.
//
//	new ── Start ──> starting ── ok ──> running ── Close, Shutdown or a fault ──> closed
//	 ^                  │
//	 └───── error ──────┘
type Node struct {
	cfg  Config
	cert *identity.Certificate

	mu       sync.Mutex
	state    state
	attempt  *attempt  // the Start under way, in state starting
	pipeline *pipeline // in state running
	err      error     // why the node closed
	done     chan struct{}
	closing  chan struct{} // closed when Close begins
	http     httpClient
}

type state uint8

const (
	stateNew state = iota
	stateStarting
	stateRunning
	stateClosed // once closed, always closed
)

// attempt is one run of start, that callers of Start wait for together.
type attempt struct {
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when err is set
	err    error
}

// New checks the configuration and returns a Node in its initial state. It does no I/O. The
// Config is copied.
func New(c Config) (*Node, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("anchor: new: %w", err)
	}
	n := &Node{
		cfg:     c.withDefaults(),
		cert:    c.Identity.Certificate(),
		done:    make(chan struct{}),
		closing: make(chan struct{}),
	}
	return n, nil
}

// ID returns the node's anchor id.
func (n *Node) ID() identity.ID { return n.cert.ID }

// Name returns the node's name, from its certificate.
func (n *Node) Name() string { return n.cert.Name }

// Addrs returns the node's overlay addresses: the IPv6 address that its key and realm give
// it, and the IPv4 address of its certificate, or the zero Addr if it has none.
func (n *Node) Addrs() (ip4, ip6 netip.Addr) { return n.cert.IPv4, n.cert.IPv6 }
