package egress_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/veil-net/anchor/egress"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/ingress"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/netstack"
	"github.com/veil-net/anchor/stream"
)

// node is a stack with an Egress and an Ingress, and streams that are neither sealed nor sent
// over a network: what is under test is everything around them.
type node struct {
	id     identity.ID
	addr   netip.Addr
	stack  *netstack.Stack
	egress *egress.Egress
	in     *ingress.Ingress
	queues queue.Registry
	stats  stats.Set

	world map[netip.Addr]*node
	mu    sync.Mutex
	lines map[identity.ID]*line // by receiver
}

// newWorld starts n nodes that reach each other. limit is the capacity of all queues that can
// be told, in bytes.
func newWorld(t *testing.T, n, limit int) []*node {
	t.Helper()
	world := make(map[netip.Addr]*node)
	var nodes []*node
	for i := range byte(n) {
		nd := &node{
			id: identity.ID{i + 1}, addr: netip.AddrFrom4([4]byte{10, 0, 0, i + 1}),
			world: world, lines: make(map[identity.ID]*line),
		}
		var err error
		nd.stack, err = netstack.New(netstack.Config{
			Addrs: []netip.Addr{nd.addr}, MTU: 9000, QueueBytes: limit, Queues: &nd.queues, Stats: &nd.stats,
		})
		if err != nil {
			t.Fatal(err)
		}
		nd.egress = egress.New(egress.Config{
			Source: nd.stack, Local: []netip.Addr{nd.addr}, Resolver: nd, Senders: nd,
			QueueBytes: limit, Queues: &nd.queues, Stats: &nd.stats,
		})
		nd.in = ingress.New(ingress.Config{
			Device: nd.stack, Local: []netip.Addr{nd.addr}, WindowBytes: max(limit, 1<<16), Queues: &nd.queues, Stats: &nd.stats,
		})
		nd.stack.SetGate(nd.egress)
		nd.egress.Start()
		world[nd.addr] = nd
		nodes = append(nodes, nd)
	}
	t.Cleanup(func() {
		for _, nd := range nodes {
			nd.stack.Close()
			nd.egress.Close()
		}
		for _, nd := range nodes {
			nd.in.Close()
		}
	})
	return nodes
}

// wantNoDrops checks that no stage of a node dropped anything.
func (nd *node) wantNoDrops(t *testing.T) {
	t.Helper()
	for _, s := range nd.stats.Snapshot() {
		if s.Dropped() != 0 {
			t.Errorf("node %d, stage %s: drops %v", nd.id[0], s.Name, s.Drops)
		}
	}
}

func (nd *node) Known(a netip.Addr) (identity.ID, bool) {
	to, ok := nd.world[a]
	if !ok {
		return identity.ID{}, false
	}
	return to.id, true
}

var errUnknown = errors.New("nobody has the address")

func (nd *node) Resolve(context.Context, netip.Addr) (identity.ID, error) {
	return identity.ID{}, errUnknown
}

// Sender returns the line to another node: one stream for all uses.
func (nd *node) Sender(to identity.ID) stream.Sender { return nd.line(to) }

func (nd *node) line(to identity.ID) *line {
	nd.mu.Lock()
	defer nd.mu.Unlock()
	l := nd.lines[to]
	if l == nil {
		l = &line{from: nd, room: make(chan struct{}, 1)}
		for _, other := range nd.world {
			if other.id == to {
				l.sink = other.in.Accept(l)
			}
		}
		nd.lines[to] = l
	}
	return l
}

// line is both ends of a stream.
type line struct {
	from   *node
	sink   stream.Sink
	number atomic.Uint64
	stall  atomic.Bool
	room   chan struct{}
}

func (l *line) Close() {}

func (l *line) Send(ctx context.Context, b *stream.Batch) error {
	defer b.Release()
	if l.stall.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	m := l.message(b)
	for !l.sink.Push(m) {
		select {
		case <-l.room:
		case <-ctx.Done():
			m.Release()
			return context.Cause(ctx)
		}
	}
	return nil
}

func (l *line) message(b *stream.Batch) *buffer.Buf {
	lengths := make([]uint16, b.Count())
	for i := range lengths {
		lengths[i] = uint16(len(b.Packet(i)))
	}
	m := buffer.Get(8 + wire.DataHeaderSize(len(lengths)) + b.Bytes() + wire.SignatureBlockSize(1, 0))
	binary.BigEndian.PutUint64(m.Extend(8), l.number.Add(1)-1)
	wire.PutDataHeader(m.Extend(wire.DataHeaderSize(len(lengths))), 0, lengths)
	for i := range lengths {
		m.Append(b.Packet(i))
	}
	m.Append([]byte{1, 0})
	clear(m.Extend(wire.SignatureSize))
	return m
}

func (l *line) ID() wire.StreamID           { return wire.StreamID{l.from.id[0]} }
func (l *line) Predecessor() wire.StreamID  { return wire.StreamID{} }
func (l *line) Peer() *identity.Certificate { return certificates[l.from.id[0]] }
func (l *line) Missing()                    {}

func (l *line) Open(m *buffer.Buf) (d stream.Data, err error) {
	d.Number = binary.BigEndian.Uint64(m.Bytes())
	return d, d.Body.Parse(m.Bytes()[8:])
}

func (l *line) Consumed(int) {
	select {
	case l.room <- struct{}{}:
	default:
	}
}

var certificates = func() (out [4]*identity.Certificate) {
	for i := range out {
		out[i] = &identity.Certificate{ID: identity.ID{byte(i)}, IPv4: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}
	}
	return out
}()

// connect returns the two ends of a TCP connection from a to b.
func connect(t *testing.T, a, b *node) (near, far net.Conn) {
	t.Helper()
	ln, err := b.stack.ListenTCP("tcp", netip.AddrPortFrom(b.addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	to := netip.MustParseAddrPort(ln.Addr().String())
	near, err = a.stack.DialTCP(ctx, netip.AddrPort{}, to)
	if err != nil {
		t.Fatal(err)
	}
	far, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// pour writes size random bytes to w, and checks that they come out of r.
func pour(t *testing.T, w io.Writer, r io.Reader, size int) {
	t.Helper()
	var wg sync.WaitGroup
	seed := [32]byte{byte(size), byte(rand.Uint32())}
	wg.Go(func() {
		if _, err := io.CopyN(w, rand.NewChaCha8(seed), int64(size)); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	want := rand.NewChaCha8(seed)
	got, expect := make([]byte, 32<<10), make([]byte, 32<<10)
	for done := 0; done < size; {
		n, err := io.ReadFull(r, got[:min(len(got), size-done)])
		if err != nil {
			t.Errorf("read after %d bytes: %v", done, err)
			break
		}
		want.Read(expect[:n])
		if string(got[:n]) != string(expect[:n]) {
			t.Errorf("other bytes after %d", done)
			break
		}
		done += n
	}
	wg.Wait()
}

const bulk = 4 << 20

// Both directions saturated with every queue at its least capacity: everything arrives, and
// nothing is dropped (A00a, A00b).
func TestBothDirectionsAtCapacityOne(t *testing.T) {
	nodes := newWorld(t, 2, 1)
	a, b := connect(t, nodes[0], nodes[1])
	c, d := connect(t, nodes[1], nodes[0])
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}, {c, d}, {d, c}} {
		wg.Go(func() { pour(t, way[0], way[1], bulk) })
	}
	wg.Wait()
	for _, nd := range nodes {
		nd.wantNoDrops(t)
		for _, q := range nd.queues.Snapshot() {
			if q.Name == "egress.destination" && q.HighWater < q.Capacity {
				t.Errorf("%s was never full: the test did not saturate", q.Name)
			}
		}
	}
}

// A reader that pauses holds neither the other direction nor other connections (A04).
func TestPausedReaderHoldsNobody(t *testing.T) {
	nodes := newWorld(t, 3, 64<<10)
	a, b := connect(t, nodes[0], nodes[1])
	c, d := connect(t, nodes[0], nodes[1])
	e, f := connect(t, nodes[0], nodes[2])
	var paused sync.WaitGroup
	resume := make(chan struct{})
	paused.Go(func() { pour(t, a, &gated{b, resume}, bulk) })
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{b, a}, {c, d}, {d, c}, {e, f}, {f, e}} {
		wg.Go(func() { pour(t, way[0], way[1], bulk) })
	}
	wg.Wait() // all others are through while b is not read
	close(resume)
	paused.Wait()
	for _, nd := range nodes {
		nd.wantNoDrops(t)
	}
}

type gated struct {
	io.Reader
	open <-chan struct{}
}

func (g *gated) Read(p []byte) (int, error) {
	<-g.open
	return g.Reader.Read(p)
}

// A destination that stalls takes nothing from another, and its writers hear of it.
func TestStalledDestination(t *testing.T) {
	nodes := newWorld(t, 3, 64<<10)
	a, _ := connect(t, nodes[0], nodes[1])
	c, d := connect(t, nodes[0], nodes[2])
	nodes[0].line(nodes[1].id).stall.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { // until its deadline
		if err := a.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Error(err)
		}
		for {
			if _, err := a.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	pour(t, c, d, bulk)
	pour(t, d, c, bulk)
	wg.Wait()

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	began := time.Now()
	_, err := nodes[0].stack.DialTCP(ctx, netip.AddrPort{}, netip.AddrPortFrom(nodes[1].addr, 80))
	if !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("dial to a stalled destination: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	_, err = nodes[0].stack.DialTCP(ctx, netip.AddrPort{}, netip.MustParseAddrPort("10.0.0.99:80"))
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial to an address that nobody has: %v", err)
	}
}
