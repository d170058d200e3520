package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/route"
)

// world joins Endpoints by a network of the test's making.
type world struct {
	t         testing.TB
	authority *identity.Authority

	mu     sync.Mutex
	nodes  map[identity.ID]*testNode
	faults faults
	wg     sync.WaitGroup
}

// faults is what the network does to each message; the zero value delivers at once.
type faults struct {
	drop, dup float64
	delay     func() time.Duration
	tamper    func(m []byte) []byte // on its way; nil result drops it
	block     bool                  // Pick waits for its context
}

type testNode struct {
	w       *world
	id      *identity.Identity
	session *identity.Session
	*Endpoint
	stats  stats.Set
	policy *fixedPolicy
	allow  func(*identity.Certificate) bool

	mu      sync.Mutex
	sinks   []*testSink
	hold    bool // sinks take messages and consume none
	learned func(*identity.Record) bool
}

// fixedPolicy is DefaultPolicy until a test wants something.
type fixedPolicy struct {
	mu   sync.Mutex
	once []Action
}

func (p *fixedPolicy) Decide(o Observation) Action {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.once) > 0 && o.Open {
		a := p.once[0]
		p.once = p.once[1:]
		return a
	}
	return DefaultPolicy{}.Decide(o)
}

func (p *fixedPolicy) want(a Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.once = append(p.once, a)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	a, err := identity.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, authority: a, nodes: make(map[identity.ID]*testNode)}
	return w
}

func (w *world) issue(name string) *identity.Identity {
	w.t.Helper()
	id, err := w.authority.Issue(identity.IssueOptions{Name: name, IPv4: netip.Addr{}})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// start brings a node up; one that ran with the same identity before is replaced.
func (w *world) start(id *identity.Identity, change func(*testNode)) *testNode {
	w.t.Helper()
	s, err := identity.NewSession(id, identity.SessionOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	n := &testNode{w: w, id: id, session: s, policy: new(fixedPolicy)}
	if change != nil {
		change(n)
	}
	n.Endpoint = NewEndpoint(Config{
		Session: s, Verifier: identity.NewVerifier(id, time.Now), Directory: n, Forwarder: n,
		Acceptor: n, Allow: n.allow, Policy: n.policy, Stats: &n.stats,
	})
	w.mu.Lock()
	w.nodes[id.ID()] = n
	w.mu.Unlock()
	return n
}

// close ends all nodes and waits for what the network has under way.
func (w *world) close() {
	w.mu.Lock()
	nodes := w.nodes
	w.nodes = nil
	w.mu.Unlock()
	for _, n := range nodes {
		n.Endpoint.Close()
	}
	w.wg.Wait()
}

func (w *world) set(f faults) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = f
}

func (w *world) node(id identity.ID) *testNode {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id]
}

// Record implements Directory.
func (n *testNode) Record(ctx context.Context, id identity.ID, fresh bool) (*identity.Record, error) {
	if p := n.w.node(id); p != nil {
		return p.session.Record(), nil
	}
	return nil, errors.New("no such record")
}

// Learn implements Directory.
func (n *testNode) Learn(r *identity.Record) bool { return n.learned == nil || n.learned(r) }

// Pick implements route.Forwarder.
func (n *testNode) Pick(ctx context.Context, to *route.Destination, r route.Request) (route.Descriptor, error) {
	n.w.mu.Lock()
	block := n.w.faults.block
	n.w.mu.Unlock()
	if block {
		<-ctx.Done()
		return route.Descriptor{}, context.Cause(ctx)
	}
	return route.Descriptor{NextHop: to.ID, Destination: to}, nil
}

// Observe implements route.Forwarder.
func (n *testNode) Observe(route.Observation) {}

// Send implements route.Forwarder.
func (n *testNode) Send(_ context.Context, d route.Descriptor, m *buffer.Buf) error {
	defer m.Release()
	n.w.mu.Lock()
	f := n.w.faults
	n.w.mu.Unlock()
	copies := 1
	if rand.Float64() < f.drop {
		copies = 0
	} else if rand.Float64() < f.dup {
		copies = 2
	}
	for range copies {
		p := append([]byte(nil), m.Bytes()...)
		if f.tamper != nil {
			if p = f.tamper(p); p == nil {
				continue
			}
		}
		n.w.carry(n.id.ID(), d.NextHop, p, f.delay)
	}
	return nil
}

// carry delivers bytes, now or later.
func (w *world) carry(from, to identity.ID, p []byte, delay func() time.Duration) {
	deliver := func() {
		if r := w.node(to); r != nil {
			b := buffer.Get(len(p))
			b.Append(p)
			if env, err := wire.ParseEnvelope(p); err != nil || !r.IsLocal(env.Tag) {
				b.Release()
				return
			}
			r.Receive(from, b)
		}
	}
	if delay == nil {
		deliver()
		return
	}
	w.wg.Go(func() {
		time.Sleep(delay())
		deliver()
	})
}

// drops returns a counter of a node's stage, of drops or notes.
func (n *testNode) counted(name string) uint64 {
	s := n.stats.Stage("stream").Snapshot()
	if v, ok := s.Drops[name]; ok {
		return v
	}
	v, ok := s.Notes[name]
	if !ok {
		n.w.t.Fatalf("no counter %q", name)
	}
	return v
}

// testSink opens what it is given at once.
type testSink struct {
	n    *testNode
	in   Inbound
	held []*buffer.Buf

	packets [][]byte
	final   uint64
	closed  bool
}

// Accept implements Acceptor.
func (n *testNode) Accept(in Inbound) Sink {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &testSink{n: n, in: in}
	n.sinks = append(n.sinks, s)
	return s
}

func (s *testSink) Push(m *buffer.Buf) bool {
	s.n.mu.Lock()
	hold := s.n.hold
	if hold {
		s.held = append(s.held, m)
	}
	s.n.mu.Unlock()
	if !hold {
		s.take(m)
	}
	return true
}

func (s *testSink) take(m *buffer.Buf) {
	defer m.Release()
	size := m.Len()
	d, err := s.in.Open(m)
	if err != nil {
		return
	}
	s.n.mu.Lock()
	for i := range d.Body.Count() {
		s.packets = append(s.packets, append([]byte(nil), d.Body.Packet(i)...))
	}
	s.n.mu.Unlock()
	s.in.Consumed(size)
}

func (s *testSink) Pass(uint64, uint64) {}

func (s *testSink) Final(last uint64) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.final = last
}

func (s *testSink) Close() {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.closed = true
	for _, m := range s.held {
		m.Release()
	}
	s.held = nil
}

// release lets the sinks consume what they held.
func (n *testNode) unhold() {
	n.mu.Lock()
	n.hold = false
	var held []*buffer.Buf
	var of []*testSink
	for _, s := range n.sinks {
		for _, m := range s.held {
			held, of = append(held, m), append(of, s)
		}
		s.held = nil
	}
	n.mu.Unlock()
	for i, m := range held {
		of[i].take(m)
	}
}

// got returns all packets of all sinks.
func (n *testNode) got() [][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out [][]byte
	for _, s := range n.sinks {
		out = append(out, s.packets...)
	}
	return out
}

func freshBatch(packets ...[]byte) *Batch {
	b := NewBatch(0)
	for _, p := range packets {
		if !b.Add(p) {
			panic("packet does not fit")
		}
	}
	b.SetBorn(time.Now())
	return b
}
