package tether

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/transport/v5"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
)

// Errors of Open. They are found with errors.Is, together with ErrDown where a tether was tried.
var (
	// ErrRefused says that Config.Admit does not admit the anchor.
	ErrRefused = errors.New("tether: anchor is not admitted")
	// ErrLimit says that Config.MaxTethers is reached.
	ErrLimit = errors.New("tether: too many tethers")
)

// Config is what a Manager is made of. Session, Verifier, Control and Receiver are required.
type Config struct {
	Session  *identity.Session
	Verifier *identity.Verifier
	// Control carries signalling. Give Manager.HandleSignal its messages of TopicSignal.
	Control control.Channel
	// Receiver takes what arrives.
	Receiver Receiver
	// Admit says whether to have a tether to an anchor, by its certificate, which is in force. nil
	// means identity.DefaultAllow. It must not wait.
	Admit func(*identity.Certificate) bool

	// ICEServers help to find paths through NATs. None means local addresses only.
	ICEServers []ICEServer
	// Loopback uses loopback addresses too: for anchors on one machine.
	Loopback bool
	// Usable says whether an address may carry a link: one of the named local interface, or, if
	// iface is empty, one of a peer. Overlay addresses of the realm's IPv6 prefix and of the two
	// certificates are refused without asking. nil means all others. It must not wait.
	Usable func(iface string, addr netip.Addr) bool
	// Net is the network below; nil means the kernel's.
	Net transport.Net

	// IdleTimeout is how long a tether without messages is kept; 0 means 60 s. While the Master is
	// away none is closed for idleness.
	IdleTimeout time.Duration
	// MaxTethers bounds the tethers, those being set up included; 0 means 1,024.
	MaxTethers int
	// MaxAttempts bounds how many are being set up at the same time; 0 means 64. More wait.
	MaxAttempts int

	Logger *slog.Logger    // nil: nothing is logged
	Stats  *stats.Set      // gets stage "tether"; may be nil
	Queues *queue.Registry // gets "tether.link" and "tether.signal"; may be nil
}

// Manager keeps the tethers of one session. All methods are safe for concurrent use.
type Manager struct {
	cfg     Config
	log     *slog.Logger
	count   *counters
	env     *environment
	own     *identity.Certificate
	nonce   identity.Nonce
	usable  addrFilter
	maker   func() (linkMaker, error)
	counter atomic.Uint64 // of link ids

	ctx    context.Context // ended by Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // of peer.run and link.close

	up atomic.Pointer[map[identity.ID]*tether] // those that are up, for Neighbor

	mu       sync.Mutex
	closed   bool
	peers    map[identity.ID]*peer
	seen     map[identity.ID]seen
	attempts int
}

// NewManager returns a Manager without tethers. It does no I/O; HandleSignal and Open start the work.
func NewManager(c Config) *Manager {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	if c.MaxTethers == 0 {
		c.MaxTethers = 1024
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 64
	}
	own := c.Session.Identity().Certificate()
	if c.Admit == nil {
		c.Admit = func(peer *identity.Certificate) bool { return identity.DefaultAllow(own, peer) }
	}
	m := &Manager{
		cfg: c, log: c.Logger, count: newCounters(c.Stats), own: own, nonce: c.Session.Nonce(),
		peers: make(map[identity.ID]*peer), seen: make(map[identity.ID]seen),
	}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	m.up.Store(&map[identity.ID]*tether{})
	realm, _ := own.IPv6.Prefix(64) // derived from the realm's id alone
	m.usable = overlayFilter(realm, own.Addrs(), c.Loopback, c.Usable)
	m.maker = sync.OnceValues(func() (linkMaker, error) {
		return newLinkMaker(linkOptions{servers: c.ICEServers, loopback: c.Loopback, usable: m.usable, net: c.Net, log: m.log})
	})
	m.env = &environment{
		own: m.nonce, log: m.log,
		receiver: c.Receiver, count: m.count, queues: c.Queues, closing: &m.wg,
		idle: c.IdleTimeout, mayIdle: c.Control.Connected,
		check: m.check,
		list: func() uint64 {
			if l := c.Verifier.Current(); l != nil {
				return l.Number
			}
			return 0
		},
	}
	return m
}

// check reports why an anchor must not have a tether, or nil.
func (m *Manager) check(c *identity.Certificate) error {
	if err := m.cfg.Verifier.Check(c); err != nil {
		return err
	}
	if !m.cfg.Admit(c) {
		return fmt.Errorf("%w: %s", ErrRefused, c.Name)
	}
	return nil
}

// Open returns the tether to an anchor, and sets it up if there is none; calls for one anchor
// join one attempt. It waits while the Master is away. It returns the context's cause (wrapped)
// when ctx ends first, control.ErrUnknown for an anchor that is not in the directory, the
// errors of identity.Verifier.Check, ErrRefused, ErrLimit, ErrDown after three attempts that failed,
// with the last fault, and net.ErrClosed after Close.
func (m *Manager) Open(ctx context.Context, id identity.ID) (Neighbor, error) {
	if n, ok := m.Neighbor(id); ok {
		return n, nil
	}
	t, err := m.open(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("tether: open %s: %w", id.Short(), err)
	}
	return t, nil
}

func (m *Manager) open(ctx context.Context, id identity.ID) (*tether, error) {
	if id == m.own.ID {
		return nil, fmt.Errorf("%w: it is this anchor", ErrRefused)
	}
	w := &waiter{left: maxFailures, done: make(chan struct{})}
	m.mu.Lock()
	p, err := m.peer(id)
	if err == nil {
		p.waiters[w] = struct{}{}
	}
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	m.kick(p)
	select {
	case <-w.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-m.ctx.Done():
		err = context.Cause(m.ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-w.done: // at the same time as the context, perhaps
		return w.tether, w.err
	default:
		delete(p.waiters, w)
		if p.fault != nil {
			err = fmt.Errorf("%w (last fault: %w)", err, p.fault)
		}
		return nil, err
	}
}

// peer returns the entry for an anchor, a new one if need be. The caller holds mu.
func (m *Manager) peer(id identity.ID) (*peer, error) {
	switch p := m.peers[id]; {
	case m.closed:
		return nil, net.ErrClosed
	case p != nil:
		return p, nil
	case len(m.peers) >= m.cfg.MaxTethers:
		return nil, ErrLimit
	}
	p := newPeer(m, id, bytes.Compare(m.own.ID[:], id[:]) < 0, m.seen[id])
	m.peers[id] = p
	return p, nil
}

// kick has the peer's goroutine look, and starts it if it is not running.
func (m *Manager) kick(p *peer) {
	m.mu.Lock()
	if !p.running && !p.gone {
		p.running = true
		m.wg.Add(1)
		go p.run()
	}
	m.mu.Unlock()
	signal(p.wake)
}

// Neighbor returns the tether to an anchor if one is up. It takes no lock.
func (m *Manager) Neighbor(id identity.ID) (Neighbor, bool) {
	if t := (*m.up.Load())[id]; t != nil && t.alive() {
		return t, true
	}
	return nil, false
}

// Neighbors returns the tethers that are up, in no particular order.
func (m *Manager) Neighbors() []Neighbor {
	up := *m.up.Load()
	out := make([]Neighbor, 0, len(up))
	for _, t := range up {
		if t.alive() {
			out = append(out, t)
		}
	}
	return out
}

// publish sets what Neighbor returns for an anchor; nil takes it away. The caller holds mu.
func (m *Manager) publish(id identity.ID, t *tether) {
	up := maps.Clone(*m.up.Load())
	if t == nil {
		delete(up, id)
	} else {
		up[id] = t
	}
	m.up.Store(&up)
}

// HandleSignal takes a control message of TopicSignal. It does not wait; what is malformed or not
// wanted is dropped and counted.
func (m *Manager) HandleSignal(msg control.Message) {
	s, err := wire.ParseSignal(msg.Body)
	if err != nil {
		m.count.signalMalformed.Inc()
		return
	}
	// Whoever signs is who is meant, and the lower id offers.
	forUs := s.From == msg.From.ID && s.FromSession == msg.Session && s.To == m.own.ID && s.ToSession == m.nonce
	offering := bytes.Compare(m.own.ID[:], s.From[:]) < 0
	wrongSide := offering && s.Type == wire.SignalOffer || !offering && (s.Type == wire.SignalAsk || s.Type == wire.SignalAnswer)
	if msg.Broadcast || msg.Topic != control.TopicSignal || !forUs || wrongSide || m.check(msg.From) != nil {
		m.count.signalRefused.Inc()
		return
	}
	for {
		m.mu.Lock()
		p, err := m.peer(s.From)
		m.mu.Unlock()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			m.count.signalRefused.Inc()
			return
		}
		switch err := p.events.Push(m.ctx, event{signal: s, cert: msg.From}); {
		case errors.Is(err, net.ErrClosed):
			continue // it had nothing to do and went away meanwhile
		case err != nil:
			m.count.signalFull.Inc()
		default:
			m.kick(p)
		}
		return
	}
}

// CloseSession closes the tether to an anchor if it is of that session of the anchor's, which has
// ended. It does not wait.
func (m *Manager) CloseSession(id identity.ID, session identity.Nonce) {
	m.endPeer(id, func(s identity.Nonce) bool { return s == session })
}

// Drop closes the tether to an anchor, or stops setting it up. It does not wait. A later Open or
// signal may set up another: Config.Admit and the Verifier keep an anchor away for good.
func (m *Manager) Drop(id identity.ID) {
	m.endPeer(id, func(identity.Nonce) bool { return true })
}

func (m *Manager) endPeer(id identity.ID, which func(identity.Nonce) bool) {
	m.mu.Lock()
	p := m.peers[id]
	m.mu.Unlock()
	if p == nil {
		return
	}
	if t := (*m.up.Load())[id]; t != nil && which(t.session) {
		t.end(errEnded)
	}
	p.events.Force(event{end: which})
	m.kick(p)
}

// Close closes all tethers and returns when every goroutine has ended. It may be called in any
// state and more than once, but not from a method of the Receiver.
func (m *Manager) Close() error {
	m.cancel(net.ErrClosed)
	m.mu.Lock()
	m.closed = true
	peers := make([]*peer, 0, len(m.peers))
	for _, p := range m.peers {
		peers = append(peers, p)
	}
	m.mu.Unlock()
	for _, p := range peers {
		m.kick(p)
	}
	m.wg.Wait()
	return nil
}
