//go:build !js

package netstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// fanOut stands for package egress: a queue per destination, each with a goroutine that
// carries its packets on, and can be stalled.
type fanOut struct {
	n     *network
	from  *node
	limit int

	mu    sync.Mutex
	lines map[netip.Addr]*outLine
}

type outLine struct {
	q     *queue.Queue[*buffer.Buf]
	stall atomic.Pointer[chan struct{}] // closed to go on
}

// fan puts one queue per destination behind a, and makes it a's Gate.
func (n *network) fan(a *node, limit int) *fanOut {
	f := &fanOut{n: n, from: a, limit: limit, lines: make(map[netip.Addr]*outLine)}
	a.SetGate(f)
	n.t.Cleanup(f.close)
	return f
}

func (f *fanOut) to(dst netip.Addr) *outLine {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.lines[dst]
	if l == nil {
		l = &outLine{q: queue.New(nil, queue.Config{Name: "test", Capacity: f.limit, Policy: queue.Admit}, (*buffer.Buf).Len)}
		f.lines[dst] = l
		f.n.wg.Go(func() { f.run(l) })
	}
	return l
}

func (f *fanOut) run(l *outLine) {
	var one [1]*buffer.Buf
	for {
		if _, err := l.q.Pop(context.Background(), one[:]); err != nil {
			return
		}
		if c := l.stall.Load(); c != nil {
			select {
			case <-*c:
			case <-f.from.done:
			}
		}
		if to := f.n.stacks[destinationOf(one[0].Bytes())]; to != nil {
			to.take(one[0])
		} else {
			one[0].Release()
		}
	}
}

func (f *fanOut) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lines {
		l.q.Close()
		if c := l.stall.Load(); c != nil {
			select {
			case <-*c:
			default:
				close(*c)
			}
		}
	}
}

// stall stops what goes to dst, until the returned function is called.
func (f *fanOut) stall(dst netip.Addr) (resume func()) {
	c := make(chan struct{})
	f.to(dst).stall.Store(&c)
	return func() {
		f.to(dst).stall.Store(nil)
		close(c)
	}
}

func (f *fanOut) TryRoom(dst netip.Addr) bool { return f.to(dst).q.HasRoom() }
func (f *fanOut) WaitRoom(ctx context.Context, dst netip.Addr) error {
	return f.to(dst).q.WaitRoom(ctx)
}

// pass hands a's packets to the queues.
func (f *fanOut) pass(from, to *node, b *buffer.Buf) bool {
	if from != f.from {
		return true
	}
	if !f.to(destinationOf(b.Bytes())).q.Force(b) {
		b.Release()
	}
	return false
}

// moved counts the bytes that c sends to d until it is closed.
type moved struct {
	c, d net.Conn
	n    atomic.Int64
	wg   sync.WaitGroup
}

func move(c, d net.Conn) *moved {
	m := &moved{c: c, d: d}
	m.wg.Go(func() {
		p := make([]byte, 64<<10)
		for {
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	})
	m.wg.Go(func() {
		p := make([]byte, 256<<10)
		for {
			n, err := d.Read(p)
			m.n.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	return m
}

func (m *moved) stop() {
	m.c.Close()
	m.d.Close()
	m.wg.Wait()
}

// during is the number of bytes that arrive while d passes.
func (m *moved) during(d time.Duration) int64 {
	was := m.n.Load()
	time.Sleep(d)
	return m.n.Load() - was
}

// TestStalledDestination: A sends to B, A's way to C stalls while C goes on sending bulk to A
// (whose acknowledgements pile up at the stall): A to B keeps its rate.
func TestStalledDestination(t *testing.T) {
	for _, limit := range []int{1, 256 << 10} {
		n := newNetwork(t)
		cfg := Config{QueueBytes: limit}
		a, b, c := n.add(1, cfg), n.add(2, cfg), n.add(3, cfg)
		f := n.fan(a, limit)
		n.pass = f.pass
		n.join()
		ab1, ab2 := connected(a, b)
		ac1, ac2 := connected(a, c)
		ca1, ca2 := connected(c, a)
		ab, ac, ca := move(ab1, ab2), move(ac1, ac2), move(ca1, ca2)
		const window = 400 * time.Millisecond
		ab.during(window) // slow start
		resume := f.stall(v6(3))
		time.Sleep(200 * time.Millisecond)
		stalled := ab.during(window)
		if ac.during(50*time.Millisecond) != 0 {
			t.Error("the stall does not stall")
		}
		resume()
		// A stack that waits shows 0. The other flows take their share of the processor before
		// and after, so the rate rises during the stall; the bound leaves room for a busy machine.
		after := ab.during(window)
		t.Logf("limit %d: A to B moved %d bytes during the stall, %d after", limit, stalled, after)
		if stalled*4 < after {
			t.Errorf("limit %d: A to B moved %d bytes during the stall, %d after", limit, stalled, after)
		}
		if ac.during(window) == 0 || ca.during(window) == 0 {
			t.Errorf("limit %d: no traffic with C after the stall", limit)
		}
		n.noDrops()
		for _, m := range []*moved{ab, ac, ca} {
			m.stop()
		}
		if high := f.to(v6(3)).q.Stats().HighWater; high > 32<<20 {
			t.Errorf("%d bytes waited for the stalled destination", high)
		}
	}
}

// TestStalledSocket: a PacketConn that waits for one destination serves the others.
func TestStalledSocket(t *testing.T) {
	n := newNetwork(t)
	a, b := n.add(1, Config{}), n.add(2, Config{})
	n.add(3, Config{})
	f := n.fan(a, 1)
	n.pass = f.pass
	n.join()
	pc, at := a.listenUDP("udp", netip.AddrPort{}), b.listenUDP("udp", netip.AddrPort{})
	resume := f.stall(v6(3))
	stalled := net.UDPAddrFromAddrPort(netip.AddrPortFrom(v6(3), 9))
	errs := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = pc.WriteTo([]byte("x"), stalled)
		}
		errs <- err
	}()
	stays(t, errs)
	for range 100 {
		if _, err := pc.WriteTo([]byte("y"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(v6(2), at.port()))); err != nil {
			t.Fatal(err)
		}
		if _, err := at.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	stays(t, errs)
	pc.SetWriteDeadline(time.Now())
	wantTimeout(t, "stalled WriteTo", <-errs)
	resume()
}

// TestStalledPath: with everything stalled, every call obeys its deadline, its context and
// Close, and Close of the stack is quick.
func TestStalledPath(t *testing.T) {
	for _, what := range []string{"gate", "queue"} {
		t.Run(what, func(t *testing.T) {
			n := newNetwork(t)
			a, b := n.add(1, Config{QueueBytes: 1}), n.add(2, Config{})
			f := n.fan(a, 1)
			stop := make(chan struct{})
			n.pass = func(from, to *node, p *buffer.Buf) bool {
				select {
				case <-stop:
				default:
					return true
				}
				if from == a && what == "queue" { // nobody reads the device any more
					<-a.done
					p.Release()
					return false
				}
				return f.pass(from, to, p)
			}
			n.join()
			c, d := connected(a, b)
			c2, d2 := connected(a, b)
			defer d.Close()
			defer d2.Close()
			u := a.connectUDP(netip.AddrPortFrom(v6(2), 9))
			f.stall(v6(2))
			close(stop)
			for range 3 { // until the wait is for room
				u.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
				u.Write([]byte("x"))
			}

			soon := func() time.Time { return time.Now().Add(20 * time.Millisecond) }
			c.SetWriteDeadline(soon())
			_, err := c.Write(make([]byte, 1<<20))
			wantTimeout(t, "TCP Write", err)
			u.SetWriteDeadline(soon())
			_, err = u.Write([]byte("x"))
			wantTimeout(t, "UDP Write", err)
			ctx, cancel := context.WithDeadline(t.Context(), soon())
			defer cancel()
			_, err = a.DialTCP(ctx, netip.AddrPort{}, netip.AddrPortFrom(v6(2), 9))
			wantIs(t, "Dial", err, context.DeadlineExceeded)
			if _, err = a.Ping(ctx, v6(2), nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Ping: %v", err)
			}

			errs := make(chan error, 4)
			c.SetWriteDeadline(time.Time{})
			u.SetWriteDeadline(time.Time{})
			go func() { _, err := c.Write([]byte("x")); errs <- err }()
			go func() { _, err := u.Write([]byte("x")); errs <- err }()
			stays(t, errs)
			c.Close()
			u.Close()
			for range 2 {
				wantIs(t, "Write during Close", <-errs, net.ErrClosed)
			}

			go func() { _, err := c2.Write([]byte("x")); errs <- err }()
			go func() { _, err := c2.Read(make([]byte, 1)); errs <- err }()
			go func() {
				_, err := a.DialTCP(context.Background(), netip.AddrPort{}, netip.AddrPortFrom(v6(2), 9))
				errs <- err
			}()
			stays(t, errs)
			start := time.Now()
			a.Close()
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("Close took %v", d)
			}
			for range 3 {
				wantIs(t, "call during Close of the stack", <-errs, net.ErrClosed)
			}
		})
	}
}

// TestOwnAddressNeverWaits: what stays in the stack waits for no gate and no queue.
func TestOwnAddressNeverWaits(t *testing.T) {
	n := newNetwork(t)
	a := n.add(1, Config{QueueBytes: 1})
	a.SetGate(closedGate{})
	pc := a.listenUDP("udp", netip.AddrPort{})
	c := a.connectUDP(netip.AddrPortFrom(v6(1), pc.port()))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	l, at := a.listen()
	if !reached(t, a, l, at) {
		t.Error("not reached")
	}
	if _, err := a.Ping(a.context(), v4(1), nil); err != nil {
		t.Error(err)
	}
	// Another destination waits, and gets the gate's error.
	_, err := a.connectUDP(netip.AddrPortFrom(v6(2), 1)).Write([]byte("x"))
	wantIs(t, "Write", err, io.ErrNoProgress)
	a.SetGate(nil)
	if _, err := a.connectUDP(netip.AddrPortFrom(v6(2), 1)).Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

type closedGate struct{}

func (closedGate) TryRoom(netip.Addr) bool                    { return false }
func (closedGate) WaitRoom(context.Context, netip.Addr) error { return io.ErrNoProgress }

// TestSaturated: both directions full, TCP and UDP, with every limit at 1: all of it moves.
func TestSaturated(t *testing.T) {
	n := newNetwork(t)
	cfg := Config{QueueBytes: 1}
	a, b := n.add(1, cfg), n.add(2, cfg)
	fa, fb := n.fan(a, 1), n.fan(b, 1)
	n.pass = func(from, to *node, p *buffer.Buf) bool {
		if from == a {
			return fa.pass(from, to, p)
		}
		return fb.pass(from, to, p)
	}
	n.join()
	var all []*moved
	for range 4 {
		c, d := connected(a, b)
		e, f := connected(b, a)
		all = append(all, move(c, d), move(e, f))
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var got [2]atomic.Int64
	for i, nd := range []*node{a, b} {
		peer := []*node{b, a}[i]
		pc := peer.listenUDP("udp", netip.AddrPort{})
		c := nd.connectUDP(netip.AddrPortFrom(v6(peer.id), pc.port()))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					pc.Close()
					return
				default:
					c.Write(make([]byte, 1000))
				}
			}
		})
		wg.Go(func() {
			for {
				if _, err := pc.Read(make([]byte, 2000)); err != nil {
					return
				}
				got[i].Add(1)
			}
		})
	}
	for i, m := range all {
		eventually(t, fmt.Sprintf("connection %d moves a megabyte", i), func() bool { return m.n.Load() > 1<<20 })
	}
	for i := range got {
		eventually(t, "datagrams arrive", func() bool { return got[i].Load() > 10 })
	}
	close(stop)
	for _, m := range all {
		m.stop()
	}
	wg.Wait()
	if q := a.queues.Snapshot()[0]; q.Waits == 0 || q.Capacity != 1 || q.Unit != "bytes" || q.Policy != queue.Admit {
		t.Errorf("the queue did not saturate: %+v", q)
	}
}

// TestResetFlood: each side sends the other segments for connections that do not exist, with
// every limit at 1, so that resets meet resets: those in excess are dropped and counted, and
// a connection beside them goes on.
func TestResetFlood(t *testing.T) {
	n := newNetwork(t)
	cfg := Config{QueueBytes: 1}
	a, b := n.add(1, cfg), n.add(2, cfg)
	n.join()
	c, d := connected(a, b)
	e, f := connected(b, a)
	m, r := move(c, d), move(e, f)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, nd := range []*node{a, b} {
		peer := byte(2 - i)
		wg.Go(func() {
			for port := uint16(1); ; port++ {
				select {
				case <-stop:
					return
				default:
				}
				p := rawTCP(tcpSegment{src: netip.AddrPortFrom(v6(peer), 1000), dst: netip.AddrPortFrom(v6(nd.id), port%512+1), flags: header.TCPFlagAck})
				nd.Write([][]byte{p, p, p, p}, 0)
			}
		})
	}
	flooded := func(nd *node) bool { return nd.snapshot().Drops["reset over limit"] > 0 }
	eventually(t, "the flood fills both queues", func() bool { return flooded(a) && flooded(b) })
	for _, m := range []*moved{m, r} {
		was := m.n.Load()
		eventually(t, "a connection beside the flood moves a megabyte", func() bool { return m.n.Load() > was+1<<20 })
	}
	close(stop)
	wg.Wait()
	m.stop()
	r.stop()
}

// TestRepliesOverLimit: answers that nothing bounds are dropped and counted while the
// outbound queue is full; what the application sends is not.
func TestRepliesOverLimit(t *testing.T) {
	s := alone(t, Config{QueueBytes: 1})
	l, at := s.listen()
	defer l.Close()
	c := s.connectUDP(netip.AddrPortFrom(v6(2), 7))
	if _, err := c.Write([]byte("fills the queue")); err != nil {
		t.Fatal(err)
	}
	syn := rawTCP(tcpSegment{src: netip.AddrPortFrom(v6(2), 7), dst: netip.AddrPortFrom(v6(1), 1), flags: header.TCPFlagSyn})
	for _, tc := range []struct {
		drop string
		p    []byte
	}{
		{"reset over limit", syn},
		{"icmp over limit", rawICMP(v6(2), v6(1), icmpv6Echo, 0, nil)},
		{"icmp over limit", rawICMP(v4(2), v4(1), icmpEcho, 0, nil)},
		{"icmp over limit", rawUDP(netip.AddrPortFrom(v4(2), 7), netip.AddrPortFrom(v4(1), 1), nil)}, // port unreachable
	} {
		was := s.snapshot().Drops[tc.drop]
		s.write(tc.p)
		eventually(t, tc.drop, func() bool { return s.snapshot().Drops[tc.drop] == was+1 })
	}
	if n := s.out.Len(); n != 1 {
		t.Errorf("%d packets wait, want 1", n)
	}
	// A SYN-ACK is admitted, within the reserve.
	s.write(rawTCP(tcpSegment{src: netip.AddrPortFrom(v6(2), 7), dst: at, flags: header.TCPFlagSyn}))
	eventually(t, "SYN-ACK", func() bool { return s.out.Len() == 2 })
	big := buffer.Get(60000)
	big.Extend(60000)
	for s.out.Used() < synReserve+1 {
		s.out.Force(big.Retain())
	}
	big.Release()
	s.write(rawTCP(tcpSegment{src: netip.AddrPortFrom(v6(2), 8), dst: at, flags: header.TCPFlagSyn}))
	eventually(t, "syn-ack over limit", func() bool { return s.snapshot().Drops["syn-ack over limit"] >= 1 })
	if s.snapshot().Drops["syn-ack over limit"] < 1 {
		t.Error("no SYN-ACK was dropped")
	}
}

// eventually waits for what gVisor's goroutines do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: has not happened", what)
		}
	}
}

// TestReordering: TCP keeps most of its rate over a path that reorders a little; without
// RACK it keeps a sixth.
func TestReordering(t *testing.T) {
	run := func(p *path) float64 {
		n := newNetwork(t)
		a, b := n.add(1, Config{}), n.add(2, Config{})
		p.attach(n)
		n.join()
		c, d := connected(a, b)
		data := bytes.Repeat([]byte("reorder "), scaled(1<<20))
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { c.Write(data); c.Close() })
		if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, data) {
			t.Errorf("read %d of %d bytes, %v", len(got), len(data), err)
		}
		d.Close()
		wg.Wait()
		return float64(len(data)) / time.Since(start).Seconds()
	}
	plain := run(&path{delay: 5 * time.Millisecond})
	mixed := run(&path{delay: 5 * time.Millisecond, reorder: 0.01, holdBack: 2 * time.Millisecond})
	if mixed < plain/5 {
		t.Errorf("%.1f MB/s with 1 %% reordering, %.1f without", mixed/1e6, plain/1e6)
	}
}
