package netstack

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
)

// Addresses of the stacks in tests: stack i has v6(i) and v4(i).

func v6(i byte) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x07, 15: i}) }
func v4(i byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 7, 0, i}) }

// network joins stacks in process: packets that one sends are written to the one that has the
// destination address. All fields but stacks may be nil; they are set before join.
type network struct {
	t      testing.TB
	stacks map[netip.Addr]*node

	// pass decides on each packet, in the reader goroutine of the sending stack: true delivers
	// it at once. What it refuses it has taken over.
	pass func(from, to *node, b *buffer.Buf) bool

	wg sync.WaitGroup
}

type node struct {
	*Stack
	queues *queue.Registry
	stats  *stats.Set
	n      *network
	id     byte
}

func newNetwork(t testing.TB) *network {
	n := &network{t: t, stacks: make(map[netip.Addr]*node)}
	t.Cleanup(func() {
		for _, nd := range n.stacks {
			nd.Close()
		}
		n.wg.Wait()
	})
	return n
}

// add starts a stack with addresses v6(id) and v4(id). Call join when all are there.
func (n *network) add(id byte, cfg Config) *node {
	n.t.Helper()
	nd := &node{queues: new(queue.Registry), stats: new(stats.Set), n: n, id: id}
	cfg.Addrs = []netip.Addr{v6(id), v4(id)}
	cfg.Queues, cfg.Stats = nd.queues, nd.stats
	s, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	nd.Stack = s
	n.stacks[v6(id)], n.stacks[v4(id)] = nd, nd
	return nd
}

// join starts carrying packets.
func (n *network) join() {
	for a, nd := range n.stacks {
		if a.Is6() {
			n.wg.Go(func() { n.carry(nd) })
		}
	}
}

func (n *network) carry(from *node) {
	bufs := make([]*buffer.Buf, 64)
	for {
		got, err := from.ReadBufs(bufs)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				n.t.Errorf("ReadBufs: %v", err)
			}
			return
		}
		for _, b := range bufs[:got] {
			to := n.stacks[destinationOf(b.Bytes())]
			if to == nil {
				b.Release()
			} else if n.pass == nil || n.pass(from, to, b) {
				to.take(b)
			}
		}
	}
}

// take gives the stack a packet and releases it.
func (nd *node) take(b *buffer.Buf) {
	block, at := b.Block()
	one := [1][]byte{block[:at+b.Len()]}
	nd.Write(one[:], at) // after Close there is nobody to tell
	b.Release()
}

func destinationOf(p []byte) netip.Addr {
	if p[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(p[16:20]))
	}
	return netip.AddrFrom16([16]byte(p[24:40]))
}

// snapshot is the state of the stack's own counters.
func (nd *node) snapshot() stats.Snapshot {
	nd.in.count()
	return nd.stats.Stage("netstack").Snapshot()
}

// noDrops fails the test if a stack has dropped anything.
func (n *network) noDrops() {
	n.t.Helper()
	for a, nd := range n.stacks {
		if s := nd.snapshot(); a.Is6() && s.Dropped() != 0 {
			n.t.Errorf("stack %d dropped: %v", nd.id, s.Drops)
		}
	}
}

// two joins two stacks.
func two(t testing.TB, cfg Config) (a, b *node) {
	n := newNetwork(t)
	a, b = n.add(1, cfg), n.add(2, cfg)
	n.join()
	return a, b
}

// path is a pass function that delays packets, and holds some of them back so that they
// arrive behind later ones, or loses them. rate limits each direction in bits per second, with
// a queue of tail bytes before it that drops when full.
type path struct {
	delay    time.Duration
	reorder  float64       // share of packets held back
	holdBack time.Duration // by up to this much
	loss     float64
	rate     float64
	tail     int

	mu   sync.Mutex
	rng  *rand.Rand
	free map[*node]time.Time // when the sender's link is free again
	line map[*node]*line
	wg   *sync.WaitGroup
	lost atomic.Uint64
}

// line delivers packets in order of their time.
type line struct {
	c chan timed
}

type timed struct {
	at time.Time
	to *node
	b  *buffer.Buf
}

func (p *path) attach(n *network) {
	p.rng = rand.New(rand.NewPCG(1, 2))
	p.free = make(map[*node]time.Time)
	p.line = make(map[*node]*line)
	p.wg = &n.wg
	n.pass = p.pass
}

func (p *path) pass(from, to *node, b *buffer.Buf) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loss > 0 && p.rng.Float64() < p.loss {
		p.lost.Add(1)
		b.Release()
		return false
	}
	now := time.Now()
	at := now
	if p.rate > 0 {
		free := p.free[from]
		if free.Before(now) {
			free = now
		}
		if backlog := free.Sub(now).Seconds() * p.rate / 8; int(backlog) > p.tail {
			p.lost.Add(1)
			b.Release()
			return false
		}
		free = free.Add(time.Duration(float64(b.Len()*8) / p.rate * 1e9))
		p.free[from] = free
		at = free
	}
	at = at.Add(p.delay)
	if p.reorder > 0 && p.rng.Float64() < p.reorder {
		at = at.Add(time.Duration(p.rng.Float64() * float64(p.holdBack)))
	}
	l := p.line[from]
	if l == nil {
		l = &line{c: make(chan timed)}
		p.line[from] = l
		p.wg.Go(func() { l.run(from) })
	}
	select {
	case l.c <- timed{at, to, b}:
	case <-from.done:
		b.Release()
	}
	return false
}

// run keeps the packets in a heap-less sorted slice: nearly all come in order.
func (l *line) run(from *node) {
	var held []timed
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if len(held) > 0 {
			timer.Reset(time.Until(held[0].at))
			due = timer.C
		}
		select {
		case p := <-l.c:
			i := len(held)
			for i > 0 && held[i-1].at.After(p.at) {
				i--
			}
			held = append(held, timed{})
			copy(held[i+1:], held[i:])
			held[i] = p
		case <-due:
			now := time.Now()
			i := 0
			for ; i < len(held) && !held[i].at.After(now); i++ {
				held[i].to.take(held[i].b)
			}
			held = append(held[:0], held[i:]...)
		case <-from.done:
			for _, p := range held {
				p.b.Release()
			}
			return
		}
	}
}

// listen listens on TCP port 0 of all addresses and returns the address on v6(id).
func (nd *node) listen() (net.Listener, netip.AddrPort) {
	nd.n.t.Helper()
	l, err := nd.ListenTCP("tcp", netip.AddrPort{})
	if err != nil {
		nd.n.t.Fatal(err)
	}
	return l, netip.AddrPortFrom(v6(nd.id), uint16(l.Addr().(*net.TCPAddr).Port))
}

func (nd *node) dial(to netip.AddrPort) net.Conn {
	nd.n.t.Helper()
	c, err := nd.DialTCP(nd.context(), netip.AddrPort{}, to)
	if err != nil {
		nd.n.t.Fatal(err)
	}
	return c
}

// context is a generous bound on what must not hang.
func (nd *node) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	nd.n.t.Cleanup(cancel)
	return ctx
}

// connected returns both ends of a TCP connection from a to b.
func connected(a, b *node) (net.Conn, net.Conn) {
	t := b.n.t
	t.Helper()
	l, at := b.listen()
	defer l.Close()
	c := a.dial(at)
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c, d
}

// bulk sends from c to d until stop is closed and returns the bytes that arrived.
func bulk(c, d net.Conn, stop <-chan struct{}) int64 {
	var wg sync.WaitGroup
	wg.Go(func() {
		p := make([]byte, 256<<10)
		for {
			select {
			case <-stop:
				c.Close()
				return
			default:
			}
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	})
	n, _ := io.Copy(io.Discard, readerOnly{d})
	wg.Wait()
	return n
}

type readerOnly struct{ io.Reader }

// dropAfter loses every packet once cut is closed.
func dropAfter(cut <-chan struct{}) func(from, to *node, b *buffer.Buf) bool {
	return func(_, _ *node, b *buffer.Buf) bool {
		select {
		case <-cut:
			b.Release()
			return false
		default:
			return true
		}
	}
}

// scaled makes amounts smaller under the race detector.
func scaled(n int) int {
	if underRace {
		return n / 8
	}
	return n
}
