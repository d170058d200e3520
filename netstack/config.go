package netstack

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
)

const (
	// MinMTU is the least MTU that IPv6 allows (RFC 8200 section 5).
	MinMTU = 1280
	// MaxMTU is the largest packet that fits a message of the overlay with its envelope,
	// header and signature.
	MaxMTU = 60000
	// DefaultMTU is the MTU without Config.MTU.
	DefaultMTU = 16000

	// DefaultSendBuffer and DefaultReceiveBuffer are how far the buffers of a TCP connection
	// grow without Config.SendBuffer and Config.ReceiveBuffer, in bytes. Half of the receive
	// buffer is offered as window.
	DefaultSendBuffer    = 4 << 20
	DefaultReceiveBuffer = 8 << 20
	// DefaultQueueBytes is the limit of the outbound queue without Config.QueueBytes.
	DefaultQueueBytes = 1 << 20
	// DefaultKeepAlive is the bound without Config.KeepAlive.
	DefaultKeepAlive = 3 * time.Minute

	// minBuffer is the least buffer of a TCP connection, and what one starts with.
	minBuffer   = 4 << 10
	startBuffer = 128 << 10
	// datagramBuffer is what a UDP socket holds unread, in payload bytes: as much as Linux by
	// default. A datagram that comes while it is full is lost and noted ("socket overflow").
	datagramBuffer = 208 << 10
)

// Config describes a Stack. Addrs is required; the zero value of everything else is a default.
type Config struct {
	// Addrs are the node's own overlay addresses: IPv6, and IPv4 if it has one. Required.
	Addrs []netip.Addr
	// Routes are the prefixes that the device reaches; there is no route to anything else. Nil
	// is everything, of the families that Addrs has.
	Routes []netip.Prefix
	// MTU is the largest IP packet toward the device, in bytes, from MinMTU to MaxMTU. 0 is
	// DefaultMTU. Packets from the device may be larger.
	MTU int
	// SendBuffer and ReceiveBuffer are how far the buffers of each TCP connection grow, in
	// bytes; together they bound a connection's memory. 0 is the default.
	SendBuffer, ReceiveBuffer int
	// QueueBytes is the limit of the outbound queue, in bytes of packets, at which Write, Dial
	// and Ping wait. 0 is DefaultQueueBytes; 1 is the least: one packet at a time.
	QueueBytes int
	// KeepAlive bounds the time until a TCP connection notices that its peer has vanished,
	// idle or with data under way. 0 is DefaultKeepAlive; under 2 s is 2 s.
	KeepAlive time.Duration

	// Logger is told of starts and ends. Nil discards.
	Logger *slog.Logger
	// Queues lists the outbound queue, as "netstack.outbound". May be nil.
	Queues *queue.Registry
	// Stats counts, as stage "netstack": In are packets from the device's Write, Out packets
	// toward its Read. May be nil.
	Stats *stats.Set
}

// withDefaults checks the configuration and fills in what was left out.
func (c Config) withDefaults() (Config, error) {
	if len(c.Addrs) == 0 {
		return c, errors.New("no address")
	}
	for _, a := range c.Addrs {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() || a.Zone() != "" {
			return c, fmt.Errorf("address %v is not the address of a node", a)
		}
	}
	for _, r := range c.Routes {
		if !r.IsValid() || r.Addr().Is4In6() {
			return c, fmt.Errorf("route %v is not a prefix", r)
		}
	}
	def := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	def(&c.MTU, DefaultMTU)
	def(&c.SendBuffer, DefaultSendBuffer)
	def(&c.ReceiveBuffer, DefaultReceiveBuffer)
	def(&c.QueueBytes, DefaultQueueBytes)
	switch {
	case c.MTU < MinMTU || c.MTU > MaxMTU:
		return c, fmt.Errorf("MTU %d is outside %d to %d", c.MTU, MinMTU, MaxMTU)
	case c.SendBuffer < minBuffer || c.ReceiveBuffer < minBuffer:
		return c, fmt.Errorf("a buffer is under %d bytes", minBuffer)
	case c.QueueBytes < 0:
		return c, fmt.Errorf("queue limit %d is negative", c.QueueBytes)
	case c.KeepAlive < 0:
		return c, fmt.Errorf("keep-alive %v is negative", c.KeepAlive)
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = DefaultKeepAlive
	}
	c.KeepAlive = max(c.KeepAlive, 2*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// retransmission gives the largest retransmission time-out and the number of retries that
// make a connection with data under way give up just within the keep-alive bound. RFC 6298
// wants an upper limit of 60 s at least; here it is at most 5 s, because after an outage
// nothing but the next retransmission finds that the overlay carries packets again.
func (c Config) retransmission() (limit time.Duration, retries int) {
	limit = min(max(c.KeepAlive/36, 200*time.Millisecond), 5*time.Second)
	return limit, int(c.KeepAlive / limit)
}

// keepAlive gives the idle time before the first probe, and interval and number of probes.
func (c Config) keepAlive() (idle, interval time.Duration, count int) {
	return c.KeepAlive / 3, c.KeepAlive / 9, 6
}
