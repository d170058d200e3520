package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/route"
)

// Errors of the Endpoint.
var (
	// ErrNotAllowed says that the access rule of this anchor excludes the peer.
	ErrNotAllowed = errors.New("stream: access rule does not admit the peer")
	// ErrNoAnswer says that the peer has not answered an open in time.
	ErrNoAnswer = errors.New("stream: peer does not answer")

	errSessionEnded = errors.New("stream: peer has started anew")
)

// SuiteName names suite 1, the only one.
const SuiteName = "X-Wing + ML-DSA-44 + AES-256-GCM"

// Directory finds the records of anchors. It is a part of control.Channel.
type Directory interface {
	// Record returns the newest known record of an anchor and asks the Master if none is
	// known, or if fresh is set. It waits as long as ctx allows.
	Record(ctx context.Context, id identity.ID, fresh bool) (*identity.Record, error)
	// Learn takes a verified record that came with an open. It reports false for a record
	// that is older than what is known.
	Learn(r *identity.Record) bool
}

// Config is what an Endpoint is made of. Session, Verifier, Directory, Forwarder and Acceptor
// are required.
type Config struct {
	Session   *identity.Session
	Verifier  *identity.Verifier
	Directory Directory
	Forwarder route.Forwarder
	Acceptor  Acceptor
	// Allow is the access rule; nil admits every member.
	Allow func(*identity.Certificate) bool
	// OnNewSession is called when a neighbour turns out to have started anew: nothing of before
	// lives on at its end. It must not wait. Nil is not called.
	OnNewSession func(identity.ID)
	// Policy decides creation, reuse and rotation between the hard limits; nil means
	// DefaultPolicy.
	Policy Policy
	// Logger gets debug messages; nil discards them.
	Logger *slog.Logger
	Stats  *stats.Set
	Queues *queue.Registry
	// SendBuffer bounds the bytes of messages that are kept until they are acknowledged, over
	// all streams; when it is used up, sending waits. 0 means 64 MiB.
	SendBuffer int64
}

// Endpoint holds all streams of a node: it opens and rotates the outbound ones, accepts the
// inbound ones, and hands every message that arrives to its stream. All methods are safe for
// concurrent use.
//
// Its goroutines: one for each peer that is sent to (peer.keep: opens, rotates, probes), one
// for each inbound stream (inbound.acknowledge), one that answers opens, and one that forgets
// what has ended.
type Endpoint struct {
	cfg    Config
	signer *Signer
	count  counters

	openings table[*opening]  // handshakes under way, by the responder's reply id
	out      table[*outbound] // by the responder's reply id
	in       table[*inbound]  // by the initiator's stream id

	opens *queue.Queue[openRequest]
	kept  *semaphore.Weighted // bytes of messages kept for resending, over all streams

	mu    sync.Mutex // guards what follows
	peers map[identity.ID]*peer
	gate  *floodgate
	// sessions holds what each neighbour's newest hello showed, at most sessionsMax.
	sessions map[identity.ID]neighborState
	closed   bool

	settled chan struct{} // a token when something was acknowledged; see Drain

	life   context.Context // ends with the Endpoint
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	once   sync.Once
}

var _ route.Local = (*Endpoint)(nil)

// NewEndpoint returns an Endpoint that is ready to send and receive. Close it after use.
func NewEndpoint(c Config) *Endpoint {
	if c.Allow == nil {
		c.Allow = func(*identity.Certificate) bool { return true }
	}
	if c.OnNewSession == nil {
		c.OnNewSession = func(identity.ID) {}
	}
	if c.Policy == nil {
		c.Policy = DefaultPolicy{}
	}
	if c.SendBuffer == 0 {
		c.SendBuffer = 64 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Endpoint{
		cfg: c,
		signer: NewSigner(func(m []byte) ([]byte, error) {
			return c.Session.Identity().Sign(identity.ContextBatch, m)
		}),
		count:    newCounters(c.Stats.Stage("stream")),
		peers:    make(map[identity.ID]*peer),
		sessions: make(map[identity.ID]neighborState),
		settled:  make(chan struct{}, 1),
		gate:     newFloodgate(),
		kept:     semaphore.NewWeighted(max(c.SendBuffer, wire.MaxMessage)),
		opens: queue.New[openRequest](c.Queues, queue.Config{
			Name: "stream.opens", Capacity: 64, Unit: "messages", Policy: queue.Drop,
		}, nil),
	}
	e.life, e.cancel = context.WithCancelCause(context.Background())
	e.wg.Go(e.answerOpens)
	e.wg.Go(e.janitor)
	return e
}

// Sender returns the sending end toward an anchor. It does nothing yet: the first Send opens
// the stream.
func (e *Endpoint) Sender(id identity.ID) Sender { return &use{peer: e.retain(id)} }

// use is one user's hold on a peer.
type use struct {
	*peer
	closed atomic.Bool
}

func (u *use) Close() {
	if u.closed.CompareAndSwap(false, true) {
		u.peer.release()
	}
}

func (e *Endpoint) retain(id identity.ID) *peer {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[id]
	if p == nil {
		p = newPeer(e, id)
		if e.closed {
			p.ended = true
			return p // its Send returns net.ErrClosed
		}
		e.peers[id] = p
		e.wg.Go(p.keep)
	}
	p.retain()
	return p
}

// Ready opens a stream to an anchor if there is none, and waits until messages can be sent.
// It returns why that is not possible when ctx ends, or at once if waiting cannot help: the
// peer is revoked, expired or excluded by the access rule.
func (e *Endpoint) Ready(ctx context.Context, id identity.ID) error {
	s := e.retain(id)
	defer s.release()
	_, err := s.established(ctx, nil)
	return err
}

// Info describes the streams with one peer.
type Info struct {
	Certificate    *identity.Certificate
	Suite          string
	Sent, Received uint64 // data messages of the streams that are open
	RTT            time.Duration
}

// Peers describes the peers that a stream is open with, in no order.
func (e *Endpoint) Peers() []Info {
	byID := make(map[identity.ID]*Info)
	at := func(c *identity.Certificate) *Info {
		i := byID[c.ID]
		if i == nil {
			i = &Info{Certificate: c, Suite: SuiteName}
			byID[c.ID] = i
		}
		return i
	}
	for _, o := range e.out.all() {
		if sent, rtt, ok := o.progress(); ok {
			i := at(o.cert)
			i.Sent += sent
			i.RTT = max(i.RTT, rtt)
		}
	}
	for _, in := range e.in.all() {
		if got, ok := in.progress(); ok {
			at(in.record.Certificate).Received += got
		}
	}
	out := make([]Info, 0, len(byID))
	for _, i := range byID {
		out = append(out, *i)
	}
	return out
}

// Audit ends every stream whose peer is no longer admitted: revoked, expired, or excluded by
// the access rule. It returns those peers.
func (e *Endpoint) Audit() []*identity.Certificate {
	refused := make(map[identity.ID]*identity.Certificate)
	for _, o := range e.out.all() {
		if err := e.admitted(o.cert); err != nil {
			refused[o.cert.ID] = o.cert
			o.end(err)
		}
	}
	for _, in := range e.in.all() {
		c := in.record.Certificate
		if err := e.admitted(c); err != nil {
			e.cfg.Logger.Debug("inbound stream ends", "peer", c.Name, "err", err)
			refused[c.ID] = c
			in.end()
		}
	}
	return slices.Collect(maps.Values(refused))
}

// admitted checks dates, revocation and the access rule.
func (e *Endpoint) admitted(c *identity.Certificate) error {
	if err := e.cfg.Verifier.Check(c); err != nil {
		return fmt.Errorf("stream: peer %s: %w", c.Name, err)
	}
	if !e.cfg.Allow(c) {
		return fmt.Errorf("stream: peer %s: %w", c.Name, ErrNotAllowed)
	}
	return nil
}

// janitor forgets what has ended.
func (e *Endpoint) janitor() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			e.mu.Lock()
			e.gate.tick(now)
			e.mu.Unlock()
			for _, in := range e.in.all() {
				if in.expired(now) {
					in.end()
				}
			}
		case <-e.life.Done():
			return
		}
	}
}

// Close ends all streams at once and returns when every goroutine has ended. It does not wait
// for what is under way, and tells the peers nothing: they notice by the tether. The second
// call waits for the first.
func (e *Endpoint) Close() error {
	e.once.Do(func() {
		e.mu.Lock()
		e.closed = true
		e.mu.Unlock()
		e.cancel(net.ErrClosed)
		e.opens.Close()
		for _, o := range e.out.all() {
			o.end(net.ErrClosed)
		}
		for _, in := range e.in.all() {
			in.end()
		}
	})
	e.wg.Wait()
	return nil
}
