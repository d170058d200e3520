package ingress

// The pipeline. Streams run in parallel to each other, each in one goroutine.
//
//	stream.Endpoint ──> queue ──────> open ──────> put in order ──> unpack, ──> tun.Device.Write
//	(a read loop:       (bytes, per   (decrypt,    (Resequencer:    check       (up to 64
//	 never waits)        stream)       verify)      held 2-50 ms)   addresses    packets)
//	     ^                                                                           │
//	     └──────────────────────── window: Inbound.Consumed <────────────────────────┘
//
// Nothing here waits for anything outbound: the device takes packets or refuses them.

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/stream"
)

// DefaultWindowBytes is the largest window that a stream grants, 8 MiB, and what its sender may
// have on the way beyond it.
const DefaultWindowBytes = 9 << 20

// Config describes an Ingress. Device and Local are required.
type Config struct {
	// Device is where packets go. One that has a method ReadBufs([]*buffer.Buf) (int, error) is
	// an in-process stack, which takes packets where they lie; for any other each packet is
	// copied once, to have room before and behind it.
	Device tun.Device
	// Local are this anchor's own addresses, the only destinations that are delivered.
	Local []netip.Addr

	// WindowBytes is how many bytes of messages one stream may have here. 0 means 9 MiB.
	WindowBytes int
	// Hold is how long messages wait for earlier ones. A stream also waits for the one that it
	// takes over from, at most Hold.Max.
	Hold Hold
	// NoCoalescing writes packets to the device one by one. It spares kernels whose offloads are
	// broken, and costs throughput; when the device calls a batch invalid it is done anyway.
	NoCoalescing bool

	// Queues lists the queues; may be nil.
	Queues *queue.Registry
	// Stats counts, as stage "ingress", packets: In are those that messages held, Out those that
	// the device took. May be nil.
	Stats *stats.Set
	// Logger is told when the device refuses packets. Nil discards it.
	Logger *slog.Logger
}

// Ingress delivers what inbound streams bring. It implements stream.Acceptor. Make it with New.
// All methods are safe for concurrent use.
type Ingress struct {
	cfg   Config
	count counters
	out   writer

	mu      sync.Mutex
	closed  bool
	streams map[wire.StreamID]*ingresser
	wg      sync.WaitGroup
}

var _ stream.Acceptor = (*Ingress)(nil)

// bufReader is what an in-process stack has; see Config.Device.
type bufReader interface {
	ReadBufs(dst []*buffer.Buf) (int, error)
}

// New returns an Ingress. It panics if a required field of cfg is missing, which is a fault of
// the caller.
func New(cfg Config) *Ingress {
	if cfg.Device == nil || len(cfg.Local) == 0 {
		panic("ingress: Config lacks Device or Local")
	}
	if cfg.WindowBytes <= 0 {
		cfg.WindowBytes = DefaultWindowBytes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Hold = cfg.Hold.withDefaults()
	cfg.Local = slices.Clone(cfg.Local)
	i := &Ingress{
		cfg:     cfg,
		count:   newCounters(cfg.Stats.Stage("ingress")),
		streams: make(map[wire.StreamID]*ingresser),
	}
	i.out.init(&i.cfg, &i.count)
	return i
}

// Accept implements stream.Acceptor: it starts the Ingresser of an inbound stream. After Close
// the Sink refuses everything.
func (i *Ingress) Accept(in stream.Inbound) stream.Sink {
	s := newIngresser(i, in)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		s.queue.Close()
		return s
	}
	if old := i.streams[in.Predecessor()]; old != nil && old.peer == s.peer {
		s.follow(old)
	}
	i.streams[s.id] = s
	i.wg.Go(s.run)
	return s
}

// remove forgets a stream.
func (i *Ingress) remove(s *ingresser) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.streams[s.id] == s {
		delete(i.streams, s.id)
	}
}

// Close ends all Sinks, drops what they hold (counter "closed"), and returns when every
// goroutine has ended. A device whose Write may block must be closed first. Close may be called
// more than once.
func (i *Ingress) Close() {
	i.mu.Lock()
	i.closed = true
	streams := make([]*ingresser, 0, len(i.streams))
	for _, s := range i.streams {
		streams = append(streams, s)
	}
	i.mu.Unlock()
	for _, s := range streams {
		s.Close()
	}
	i.wg.Wait()
}
