package egress

// The pipeline. Everything left of a queue runs in one goroutine, in order; destinations run
// in parallel to each other.
//
//	Source.Read ──> parse, classify ──> sort by ──> group ──> queue ──> Egresser ──> stream.Sender
//	(one reader:      (dropped or       destination   (per     (bytes)    (takes what
//	 the synchronous   ignored ones                    address)            waits, up to 25
//	 boundary)         end here)                                           packets: a batch)
//	     ^                                                                   │
//	     └───────────── ICMP error: expired, no route, refused <─────────────┘
//
// Nothing delays a lone packet: an Egresser sends what it finds, and batches form by
// themselves while it is busy. Order is kept per destination. An Egresser waits for nothing
// but its own destination, so that a stalled one takes nothing from the others; the reader
// waits for nobody.

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/stream"
)

// Defaults of Config.
const (
	DefaultQueueBytes      = 256 << 10
	DefaultGrace           = 5 * time.Second
	DefaultMaxAge          = 2 * time.Second
	DefaultMaxDestinations = 4096
)

// maxMTU is what an overlay packet may have, as an ICMP error states it.
const maxMTU = 60000

// Resolver tells which anchor has an overlay address. Methods are called from many
// goroutines at once.
type Resolver interface {
	// Known returns the anchor without waiting, if it is known already.
	Known(addr netip.Addr) (identity.ID, bool)
	// Resolve finds the anchor. As long as the answer is not known it waits, until ctx ends; any
	// other error says that nobody has the address, or, matching one of package identity, that
	// who has it is refused. Such an answer is taken for true for a second.
	Resolve(ctx context.Context, addr netip.Addr) (identity.ID, error)
}

// Senders gives the sending end toward an anchor. Each result is closed once.
type Senders interface {
	Sender(peer identity.ID) stream.Sender
}

// bufReader is a source that gives its packets away in buffers, each with its reference and
// Born. It is an in-process stack: its writers wait by WaitRoom.
type bufReader interface {
	ReadBufs(dst []*buffer.Buf) (int, error)
}

// Config describes an Egress. Source, Local, Resolver and Senders are required.
type Config struct {
	// Source is where packets come from, and where ICMP errors go to.
	Source tun.Device
	// Local are this anchor's own addresses, the only sources of packets that are sent.
	Local []netip.Addr
	// Resolver finds the anchor behind a destination address.
	Resolver Resolver
	// Senders gives the stream toward an anchor.
	Senders Senders

	// QueueBytes is the capacity of a destination's queue, in bytes. 0 means 256 KiB.
	QueueBytes int
	// Grace is how long a destination without packets keeps its Egresser and its use of the
	// stream. 0 means 5 s.
	Grace time.Duration
	// MaxAge is how old a packet may become, counted from its read at the source. 0 means 2 s.
	MaxAge time.Duration
	// MaxDestinations bounds how many addresses are served at once. 0 means 4,096.
	MaxDestinations int

	// Queues lists the queues; may be nil.
	Queues *queue.Registry
	// Stats counts, as stage "egress", packets: In are those read, Out those that a stream has
	// taken. May be nil.
	Stats *stats.Set
	// Logger gets what the source has to say when it fails. Nil discards it.
	Logger *slog.Logger
}

// withDefaults returns a copy in which every field has its value.
func (c Config) withDefaults() Config {
	if c.QueueBytes <= 0 {
		c.QueueBytes = DefaultQueueBytes
	}
	if c.Grace <= 0 {
		c.Grace = DefaultGrace
	}
	if c.MaxAge <= 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.MaxDestinations <= 0 {
		c.MaxDestinations = DefaultMaxDestinations
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Local = slices.Clone(c.Local)
	return c
}

// Egress moves packets from a source to streams. Make it with New. All methods are safe for
// concurrent use.
type Egress struct {
	cfg    Config
	admits bool // the source is an in-process stack
	count  counters
	answer answerer

	groups sync.Map // netip.Addr -> *group; made by the reader alone
	live   atomic.Int64

	ctx    context.Context // ended by Close, with net.ErrClosed
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the reader and all Egressers

	mu       sync.Mutex
	started  bool
	closed   bool
	err      error         // why the source ended
	ended    chan struct{} // closed when the reader has ended
	finished chan struct{} // closed when every goroutine has ended
}

// New returns an Egress that Start sets to work. It panics if a required field of cfg is
// missing, which is a fault of the caller.
func New(cfg Config) *Egress {
	if cfg.Source == nil || cfg.Resolver == nil || cfg.Senders == nil || len(cfg.Local) == 0 {
		panic("egress: Config lacks Source, Local, Resolver or Senders")
	}
	e := &Egress{
		cfg:      cfg.withDefaults(),
		count:    newCounters(cfg.Stats.Stage("egress")),
		ended:    make(chan struct{}),
		finished: make(chan struct{}),
	}
	_, e.admits = cfg.Source.(bufReader)
	e.answer = answerer{source: cfg.Source, count: &e.count}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	return e
}

// Start begins to read the source. Only the first call does anything, and none after Close.
func (e *Egress) Start() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started || e.closed {
		return
	}
	e.started = true
	e.wg.Go(e.read)
	go func() { // what Shutdown waits for within its context
		e.wg.Wait()
		close(e.finished)
	}()
}

// Done is closed when the source has ended, by itself or because it was closed, or at Close
// without Start. What was read by then is still on its way.
func (e *Egress) Done() <-chan struct{} { return e.ended }

// Err returns nil until Done is closed, then why the source ended: its error, or an error that
// matches net.ErrClosed if Close came first.
func (e *Egress) Err() error {
	select {
	case <-e.ended:
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.err
	default:
		return nil
	}
}

// Shutdown sends what was read and what the source still gives, and then closes. The source
// must have been closed, since only that ends a Read. It returns the context's cause if ctx
// ends first; what is left is then dropped, as by Close.
func (e *Egress) Shutdown(ctx context.Context) error {
	err := e.flush(ctx)
	e.Close()
	return err
}

// flush waits until the source has ended and every Egresser has sent what it had.
func (e *Egress) flush(ctx context.Context) error {
	e.mu.Lock()
	started := e.started
	e.mu.Unlock()
	if !started {
		return nil
	}
	select {
	case <-e.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// The reader makes the groups, and has ended: there are no others.
	for _, g := range e.groups.Range {
		g.(*group).queue.Close()
	}
	select {
	case <-e.finished:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close ends sending at once, drops what was not sent (counter "closed"), and returns when
// every goroutine has ended. The source must have been closed, since only that ends a Read;
// Close does not close it, because others write to it. Waiting calls of WaitRoom return
// net.ErrClosed. Close may be called in any state and more than once.
func (e *Egress) Close() {
	e.cancel(net.ErrClosed)
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		if !e.started {
			e.err = net.ErrClosed
			close(e.ended)
			close(e.finished)
		}
	}
	e.mu.Unlock()
	<-e.finished
}

// sourceEnded records why the reader ends.
func (e *Egress) sourceEnded(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
	close(e.ended)
}

// isEnd reports whether a source that returned err has nothing more to give.
func isEnd(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, errSourceClosed)
}
