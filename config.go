package anchor

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/route"
	"github.com/veil-net/anchor/stream"
	"github.com/veil-net/anchor/tether"
)

// ICEServer is a STUN or TURN server that helps to cross NATs.
type ICEServer = tether.ICEServer

// Config is what a Node is made of. Identity and Control are required; the zero value of
// every other field is a good choice.
type Config struct {
	// Identity is who the node is; see identity.Load and identity.Authority.
	Identity *identity.Identity

	// Control is the way to the Master: control.NATS(url) for any NATS server with JetStream,
	// or that of an embedded control.Master.
	Control control.Fabric

	// Source is where the packets of the host come from and go to: a kernel TUN, or anything
	// that implements the interface. The node closes it. Nil means an in-process network
	// stack, which needs no privilege.
	Source tun.Device

	// ICEServers are STUN and TURN servers. Without any, only addresses of the machine's own
	// interfaces are offered to peers.
	ICEServers []ICEServer

	// Allow narrows who may open streams to this node, and whom it talks to. Nil admits peers that share a group
	// with this node, or all members if neither side has groups. It is called often and must
	// not wait.
	Allow func(Peer) bool

	// RoutePolicy prefers one next hop to another. Nil means route.DirectOnly.
	RoutePolicy route.Policy

	// StreamPolicy decides when streams are made anew and closed, between hard limits. Nil
	// means stream.DefaultPolicy.
	StreamPolicy stream.Policy

	// MTU is the largest IP packet in bytes, 1,280 to 60,000. 0 means the in-process stack's
	// default, or what Source says.
	MTU int

	// LookupWait is how long Dial waits for a name that the directory does not hold before it
	// returns ErrUnknownName. 0 means 5 s; a directory that is new by itself is given 15 s.
	LookupWait time.Duration

	// StartTimeout bounds the start that Listen and other calls without a context cause. 0
	// means 30 s.
	StartTimeout time.Duration

	// QueueBytes is how many bytes of packets may wait for one destination before its writers
	// wait. 0 means 256 KiB.
	QueueBytes int

	// Logger gets what the node has to say, at levels debug to warn. Nil discards it.
	Logger *slog.Logger

	// testing holds seams for this package's own tests.
	testing testSeams
}

const (
	minMTU = 1280
	maxMTU = 60000
)

// validate looks at the fields alone; it changes nothing.
func (c *Config) validate() error {
	switch {
	case c.Identity == nil:
		return errors.New("Config.Identity is nil")
	case c.Control == nil:
		return errors.New("Config.Control is nil")
	case c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU):
		return fmt.Errorf("Config.MTU is %d, want %d to %d", c.MTU, minMTU, maxMTU)
	case c.LookupWait < 0:
		return errors.New("Config.LookupWait is negative")
	case c.StartTimeout < 0:
		return errors.New("Config.StartTimeout is negative")
	case c.QueueBytes < 0:
		return errors.New("Config.QueueBytes is negative")
	}
	return nil
}

// withDefaults returns a copy in which every field has its value.
func (c Config) withDefaults() Config {
	if c.LookupWait == 0 {
		c.LookupWait = 5 * time.Second
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 30 * time.Second
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 256 << 10
	}
	if c.RoutePolicy == nil {
		c.RoutePolicy = route.DirectOnly{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.testing.clock == nil {
		c.testing.clock = time.Now
	}
	c.ICEServers = append([]ICEServer(nil), c.ICEServers...)
	return c
}

// testSeams are what this package's tests replace.
type testSeams struct {
	clock func() time.Time
	links func(*tether.Config) // changes how links are made
}
