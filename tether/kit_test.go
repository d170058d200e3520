package tether

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
)

// hub is a Master of the simplest kind: it authenticates by looking at who calls.
type hub struct {
	mu      sync.Mutex
	rng     *rand.Rand
	members map[identity.ID]*hubControl
	away    bool

	// Faults, for every message.
	delay, jitter   time.Duration
	drop, duplicate float64
	// meddle, if set, changes bodies on their way.
	meddle func(body []byte) []byte
	sent   int
}

func newHub() *hub {
	return &hub{rng: newRand(7), members: make(map[identity.ID]*hubControl)}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 8)) }

// set changes faults under the hub's lock.
func (h *hub) set(change func(h *hub)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

// hubControl is one member's control.Channel.
type hubControl struct {
	control.Channel
	hub     *hub
	session *identity.Session
	handler func(control.Message)
	// stale, if set, is what Lookup returns for other members unless asked afresh.
	stale map[identity.ID]*identity.Record
}

func (c *hubControl) Connected() bool {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	return !c.hub.away
}

func (c *hubControl) Cached(key control.Key) (*identity.Record, bool) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if m := c.hub.members[key.ID]; m != nil {
		return m.session.Record(), true
	}
	return nil, false
}

func (c *hubControl) Lookup(_ context.Context, key control.Key, fresh bool) (*identity.Record, error) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if c.hub.away {
		return nil, control.ErrNotReady
	}
	if r := c.stale[key.ID]; r != nil && !fresh {
		return r, nil
	}
	if m := c.hub.members[key.ID]; m != nil {
		return m.session.Record(), nil
	}
	return nil, control.ErrUnknown
}

func (c *hubControl) Send(ctx context.Context, to identity.ID, topic control.Topic, body []byte) error {
	h := c.hub
	h.mu.Lock()
	if h.away {
		h.mu.Unlock()
		return control.ErrNotReady
	}
	h.sent++
	if h.meddle != nil {
		body = h.meddle(body)
	}
	msg := control.Message{From: c.session.Identity().Certificate(), Session: c.session.Nonce(), Topic: topic, Body: body}
	copies := 1
	if h.rng.Float64() < h.duplicate {
		copies = 2
	}
	if h.rng.Float64() < h.drop {
		copies = 0
	}
	var now bool
	for range copies {
		if d := h.delay + time.Duration(h.rng.Float64()*float64(h.jitter)); d > 0 {
			time.AfterFunc(d, func() { h.deliver(to, msg) })
		} else {
			now = true
		}
	}
	h.mu.Unlock()
	if now {
		h.deliver(to, msg)
	}
	return nil
}

func (h *hub) deliver(to identity.ID, msg control.Message) {
	h.mu.Lock()
	m := h.members[to]
	away := h.away
	h.mu.Unlock()
	if m != nil && m.handler != nil && !away {
		m.handler(msg)
	}
}

// sink is a Receiver that checks the rules of the interface and keeps what comes.
type sink struct {
	mu       sync.Mutex
	up       map[Neighbor]bool
	ups      int
	downs    int
	messages [][]byte
	faults   []string
	took     func(from Neighbor, m *buffer.Buf) // nil: keep a copy
	changed  chan struct{}
}

func newSink() *sink { return &sink{up: make(map[Neighbor]bool), changed: make(chan struct{}, 1)} }

func (s *sink) Up(n Neighbor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range s.up {
		if other.ID() == n.ID() {
			s.faults = append(s.faults, "Up while another tether of the same anchor is up")
		}
	}
	s.up[n] = true
	s.ups++
	signal(s.changed)
}

func (s *sink) Down(n Neighbor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up[n] {
		s.faults = append(s.faults, "Down without Up")
	}
	delete(s.up, n)
	s.downs++
	signal(s.changed)
}

func (s *sink) Receive(from Neighbor, m *buffer.Buf) {
	s.mu.Lock()
	if !s.up[from] {
		s.faults = append(s.faults, "Receive outside Up and Down")
	}
	took := s.took
	if took == nil {
		s.messages = append(s.messages, append([]byte(nil), m.Bytes()...))
		signal(s.changed)
	}
	s.mu.Unlock()
	if took != nil {
		took(from, m)
	}
	m.Release()
}

func (s *sink) counts() (ups, downs, messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ups, s.downs, len(s.messages)
}

// realm makes identities of one realm.
type realm struct{ authority *identity.Authority }

func newRealm(tb testing.TB) *realm {
	tb.Helper()
	a, err := identity.NewAuthority("test")
	if err != nil {
		tb.Fatal(err)
	}
	return &realm{a}
}

func (r *realm) issue(name string, groups ...string) *identity.Identity {
	id, err := r.authority.Issue(identity.IssueOptions{
		Name: name, Groups: groups,
		// In force now and in the virtual time of synctest, which starts in 2000.
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	if err != nil {
		panic(err)
	}
	return id
}

// node is a Manager with all around it.
type node struct {
	*Manager
	tb      testing.TB
	session *identity.Session
	control *hubControl
	sink    *sink
	stats   *stats.Set
	queues  *queue.Registry
}

// sessions are those that newNode uses, one for each identity: making one takes time.
var sessions sync.Map

// newNode puts a node with id's session on the hub. change may alter the Config.
func newNode(tb testing.TB, h *hub, id *identity.Identity, change func(*Config)) *node {
	tb.Helper()
	s, ok := sessions.Load(id.ID())
	if !ok {
		s = newSession(tb, id)
		sessions.Store(id.ID(), s)
	}
	return newNodeWith(tb, h, s.(*identity.Session), change)
}

func newSession(tb testing.TB, id *identity.Identity) *identity.Session {
	tb.Helper()
	s, err := identity.NewSession(id, identity.SessionOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// newNodeWith puts a node on the hub.
func newNodeWith(tb testing.TB, h *hub, s *identity.Session, change func(*Config)) *node {
	tb.Helper()
	id := s.Identity()
	n := &node{
		tb: tb, session: s, sink: newSink(), stats: new(stats.Set), queues: new(queue.Registry),
		control: &hubControl{hub: h, session: s},
	}
	c := Config{
		Session: s, Verifier: identity.NewVerifier(id, nil), Control: n.control, Receiver: n.sink,
		Loopback: true, Usable: loopbackOnly, Stats: n.stats, Queues: n.queues,
	}
	if testing.Verbose() && os.Getenv("TETHER_LOG") != "" {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", id.Certificate().Name)
	}
	if change != nil {
		change(&c)
	}
	n.Manager = NewManager(c)
	n.control.handler = n.HandleSignal
	h.set(func(h *hub) { h.members[id.ID()] = n.control })
	tb.Cleanup(n.stop)
	return n
}

// stop closes the Manager and checks what its Receiver saw.
func (n *node) stop() {
	if err := n.Close(); err != nil {
		n.tb.Error(err)
	}
	n.sink.mu.Lock()
	defer n.sink.mu.Unlock()
	for _, f := range n.sink.faults {
		n.tb.Errorf("%s: %s", n.name(), f)
	}
	if n.sink.ups != n.sink.downs {
		n.tb.Errorf("%s: %d Up, %d Down", n.name(), n.sink.ups, n.sink.downs)
	}
}

func (n *node) name() string          { return n.own.Name }
func (n *node) id() identity.ID       { return n.own.ID }
func (n *node) drops(r string) uint64 { return n.stats.Stage("tether").Snapshot().Drops[r] }
func (n *node) notes(r string) uint64 { return n.stats.Stage("tether").Snapshot().Notes[r] }

// noDrops fails the test if anything was dropped.
func (n *node) noDrops() {
	n.tb.Helper()
	for r, c := range n.stats.Stage("tether").Snapshot().Drops {
		if c != 0 {
			n.tb.Errorf("%s: dropped %d for %q", n.name(), c, r)
		}
	}
}

// open opens a tether or fails the test.
func (n *node) open(to *node) *tether {
	n.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	nb, err := n.Open(ctx, to.id())
	if err != nil {
		n.tb.Fatal(err)
	}
	return nb.(*tether)
}

// await waits until cond holds for the node's sink.
func (n *node) await(what string, cond func() bool) {
	n.tb.Helper()
	limit := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-n.sink.changed:
		case <-time.After(10 * time.Millisecond): // what has no notice
		case <-limit:
			n.tb.Fatalf("%s: gave up waiting for %s", n.name(), what)
		}
	}
}

// members are identities of one realm that tests share, because making them takes time. The
// first has the lower id of the first two.
var members = sync.OnceValue(func() []*identity.Identity {
	a, err := identity.NewAuthority("test")
	if err != nil {
		panic(err)
	}
	r := &realm{a}
	ids := make([]*identity.Identity, 7)
	for i := range ids {
		ids[i] = r.issue(fmt.Sprintf("n%d", i))
	}
	if a, b := ids[0].ID(), ids[1].ID(); bytes.Compare(a[:], b[:]) > 0 {
		ids[0], ids[1] = ids[1], ids[0]
	}
	return ids
})

// pair makes two nodes; low has the lower id and so offers.
func pair(tb testing.TB, change func(*Config)) (h *hub, low, high *node) {
	tb.Helper()
	h = newHub()
	return h, newNode(tb, h, members()[0], change), newNode(tb, h, members()[1], change)
}

// message is an envelope-sized message that says s.
func message(s string) *buffer.Buf {
	m := buffer.Get(44 + len(s))
	m.Append(make([]byte, 44))
	m.Bytes()[0], m.Bytes()[1] = 1, 1
	m.Append([]byte(s))
	return m
}
