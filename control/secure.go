package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
)

// Options are for New. The zero value is usable.
type Options struct {
	// Logger gets what an operator wants to know; nil discards it.
	Logger *slog.Logger
	// Stats counts as stage "control"; Queues lists the queues. Nil lists them nowhere.
	Stats  *stats.Set
	Queues *queue.Registry
	// Allow narrows whom messages are taken from, further than membership; nil admits all members.
	Allow func(own, peer *identity.Certificate) bool
	// OnRevoked is called each time a newer revocation list has come into force: look again at
	// whom you talk to. It must not wait, nor call Close. Nil means that nobody wants to know.
	OnRevoked func()
	// Seed makes the random delays repeatable; 0 draws a seed.
	Seed uint64
}

// New returns the Channel of one session over a fabric. It does no I/O. A Session serves one
// Channel: another would use its message counters again.
func New(f Fabric, s *identity.Session, v *identity.Verifier, o Options) Channel {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Allow == nil {
		o.Allow = func(_, _ *identity.Certificate) bool { return true }
	}
	if o.OnRevoked == nil {
		o.OnRevoked = func() {}
	}
	c := &channel{
		fabric: f, sess: s, verifier: v, opt: o,
		log:   o.Logger.With("part", "control"),
		count: newCounters(o.Stats),
		own:   s.Identity().Certificate(), id: s.Identity().ID(),
		rnd:         newJitter(o.Seed),
		peers:       newPeerTable(),
		openers:     newOpeners(),
		corrections: newLimiter(10, 10),
		lookups:     newLimiter(50, 200),
		ownAnswers:  newLimiter(10, 10),
		repairs:     newLimiter(1, 5),
		again:       make(chan struct{}, 1),
		turn:        make(chan struct{}, 1),
		events:      make(chan Event, 1),
		done:        make(chan struct{}),
		ended:       make(chan struct{}),
	}
	c.lanes = newLanes(c)
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	if err := c.initKeys(); err != nil {
		c.finish(err)
	}
	return c
}

// initKeys derives the keys of the realm secrets that the identity holds.
func (c *channel) initKeys() error {
	id := c.sess.Identity()
	ring := new(keyring)
	var err error
	g, secret := id.RealmSecret()
	if ring.current, err = newRealmKeys(c.own.Realm, g, secret); err != nil {
		return err
	}
	if g, secret, ok := id.PreviousRealmSecret(); ok {
		if ring.previous, err = newRealmKeys(c.own.Realm, g, secret); err != nil {
			return err
		}
	}
	c.keys.Store(ring)
	return nil
}

// channel is the secure layer: a Channel over any Fabric.
//
// One goroutine (run) connects, announces and shows presence. The fabric's goroutines call receive, which
// opens the outer seal and puts the message into its sender's lane; a lane has a goroutine while it
// holds messages, which verifies them, waits for look-ups if it must, and calls the handler. A
// challenge has a goroutine until it is answered.
type channel struct {
	fabric   Fabric
	sess     *identity.Session
	verifier *identity.Verifier
	opt      Options
	log      *slog.Logger
	count    *counters
	own      *identity.Certificate
	id       identity.ID
	rnd      *jitter
	handler  Handler

	counter     atomic.Uint64 // of the last thing sealed
	keys        atomic.Pointer[keyring]
	link        atomic.Pointer[link] // nil while the Master is away
	maxBody     atomic.Int64
	fresh       atomic.Int64 // FreshSince in Unix nanoseconds, 0 for never
	peers       *peerTable
	openers     *openers
	lanes       *lanes
	corrections *limiter
	lookups     *limiter
	ownAnswers  *limiter
	repairs     *limiter // of the own record, when somebody else wrote it
	question    atomic.Pointer[ownChallenge]
	again       chan struct{}    // a token: the record has changed
	turn        chan struct{}    // holds the token of whoever announces
	replaced    *identity.Record // announced last, on whichever link; of whoever has the turn

	ctx    context.Context // ends with the Channel
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	events chan Event

	mu      sync.Mutex
	started bool
	fault   error // the last one of connecting
	err     error // set when done is closed
	done    chan struct{}
	waiting bool          // somebody waits for wg
	ended   chan struct{} // closed when nothing runs any more
}

// link is one connection to the Master.
type link struct {
	Conn
	since   time.Time
	counted uint64 // losses of slow handlers already counted; run's alone
	// subs are the cancel functions by generation of the realm secret. Whoever has the turn may use it.
	subs map[uint32][]func()
	// announced is the record that this link's directory holds of this session.
	announced atomic.Pointer[identity.Record]
	// watched says under which generations the own record is watched; run's alone.
	watched map[uint32]bool
	seen    atomic.Pointer[ownEntry] // what was seen there last
	changed chan struct{}            // a token: something new was seen
}

var _ Channel = (*channel)(nil)

// Start implements Channel.
func (c *channel) Start(ctx context.Context, h Handler) error {
	if h == nil {
		h = func(Message) {}
	}
	ready := make(chan error, 1)
	c.mu.Lock()
	switch {
	case c.err != nil:
		err := c.err
		c.mu.Unlock()
		return fmt.Errorf("control: start: %w", err)
	case c.started:
		c.mu.Unlock()
		return errors.New("control: start: called before")
	}
	c.started, c.handler = true, h
	c.wg.Go(func() { c.run(ready) })
	c.mu.Unlock()

	var err error
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = c.startTimeout(ctx)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("control: start: %w", err)
	c.finish(err)
	c.wait()
	return err
}

// startTimeout is the error of a Start whose context has ended.
func (c *channel) startTimeout(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault == nil {
		return fmt.Errorf("%w: %v has not answered yet: %w", ErrNotReady, c.fabric, context.Cause(ctx))
	}
	return fmt.Errorf("%w: %w: %w", ErrNotReady, context.Cause(ctx), c.fault)
}

// spawn runs f in a goroutine that Close waits for. It reports false, and runs nothing, after the
// end.
func (c *channel) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.wg.Go(f)
	return true
}

// finish ends the Channel for the first reason given. It does not wait.
func (c *channel) finish(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
	}
	c.mu.Unlock()
	if first {
		c.cancel(err)
		close(c.done)
	}
}

// wait returns when nothing runs any more. The Channel has ended before.
func (c *channel) wait() {
	c.mu.Lock()
	first := !c.waiting
	c.waiting = true
	c.mu.Unlock()
	if first {
		c.wg.Wait()
		close(c.events) // run, its only writer, is gone
		close(c.ended)
	}
	<-c.ended
}

// Close implements Channel.
func (c *channel) Close() error {
	c.finish(fmt.Errorf("control: %w", net.ErrClosed))
	c.wait()
	return nil
}

// Done implements Channel.
func (c *channel) Done() <-chan struct{} { return c.done }

// Err implements Channel.
func (c *channel) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Events implements Channel.
func (c *channel) Events() <-chan Event { return c.events }

// emit offers an event, in place of one that was not read. Only run calls it.
func (c *channel) emit(e Event) {
	for {
		select {
		case c.events <- e:
			return
		default:
		}
		select {
		case <-c.events:
		default:
		}
	}
}

// MaxBody implements Channel.
func (c *channel) MaxBody() int { return int(c.maxBody.Load()) }

// Connected implements Channel.
func (c *channel) Connected() bool { return c.link.Load() != nil }

// FreshSince implements Channel.
func (c *channel) FreshSince() time.Time {
	n := c.fresh.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// connected returns the present link, or why there is none.
func (c *channel) connected() (*link, error) {
	l := c.link.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return nil, c.err
	case l != nil:
		return l, nil
	case c.fault != nil:
		return nil, fmt.Errorf("%w: %w", ErrNotReady, c.fault)
	}
	return nil, fmt.Errorf("%w: not connected to %v", ErrNotReady, c.fabric)
}

// failed says why the Master did not do what was asked: the Channel has ended, or the caller's
// context, or else the Master is not ready.
func (c *channel) failed(ctx context.Context, err error) error {
	end := c.Err()
	switch {
	case end != nil:
		return end
	case errors.Is(err, ErrNotReady) || errors.Is(err, ErrTooLarge):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrNotReady, context.Cause(ctx))
	}
	return fmt.Errorf("%w: %w", ErrNotReady, err)
}

// kvLimit bounds each read and write of a bucket: a server without its streams never answers.
const kvLimit = 2 * time.Second

var errKVLimit = fmt.Errorf("the Master's store has not answered for %v", kvLimit)

func kvContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, kvLimit, errKVLimit)
}
