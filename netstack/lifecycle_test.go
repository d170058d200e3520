//go:build !js

package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// TestCloseEverything closes a stack while calls of every kind wait and connections are in
// every state: all calls return net.ErrClosed, within 3 s.
func TestCloseEverything(t *testing.T) {
	n := newNetwork(t)
	a, b := n.add(1, Config{}), n.add(2, Config{})
	n.join()
	l, at := a.listen()
	out, in := connected(a, b)
	full, full2 := connected(a, b)
	fill(t, full)
	half, half2 := connected(a, b)
	half.(*tcpConn).CloseWrite() // FIN-WAIT-2
	passive, passive2 := connected(a, b)
	passive2.Close() // CLOSE-WAIT
	gone, gone2 := connected(a, b)
	gone.Close() // TIME-WAIT
	gone2.Close()
	lingering, lingering2 := connected(a, b)
	fill(t, lingering)
	lingering.Close() // FIN-WAIT-1 with data that nobody reads
	queued := b.dial(at)
	defer queued.Close()
	pc := a.listenUDP("udp", netip.AddrPort{})
	u := a.connectUDP(netip.AddrPortFrom(v6(2), 9))
	a.flush()

	silent := netip.AddrPortFrom(v6(99), 1)
	calls := []func() error{
		func() error { _, err := a.DialTCP(context.Background(), netip.AddrPort{}, silent); return err },
		func() error { _, err := a.Ping(context.Background(), silent.Addr(), nil); return err },
		func() error { _, err := out.Read(make([]byte, 1)); return err },
		func() error { _, err := full.Write(make([]byte, 1<<20)); return err },
		func() error { _, err := half.Read(make([]byte, 1)); return err },
		func() error { _, _, err := pc.ReadFrom(make([]byte, 1)); return err },
		func() error { _, err := u.Read(make([]byte, 1)); return err },
	}
	calls = append(calls, calls[0], calls[0])
	errs := make(chan error)
	for _, f := range calls {
		go func() { errs <- f() }()
	}
	stays(t, errs)
	start := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := a.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	for range calls {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a call returned %v", err)
		}
	}
	wg.Wait()
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("Close took %v", d)
	}

	for what, err := range map[string]error{
		"Dial":          second(a.DialTCP(t.Context(), netip.AddrPort{}, at)),
		"DialUDP":       second(a.DialUDP(t.Context(), netip.AddrPort{}, at)),
		"Listen":        second(a.ListenTCP("tcp", netip.AddrPort{})),
		"ListenUDP":     second(a.ListenUDP("udp", netip.AddrPort{})),
		"Accept":        second(l.Accept()),
		"Read":          second(out.Read(make([]byte, 1))),
		"Write":         second(out.Write([]byte("x"))),
		"Read, full":    second(full.Read(make([]byte, 1))),
		"Read, passive": second(passive.Read(make([]byte, 1))),
		"UDP Read":      second(u.Read(make([]byte, 1))),
		"UDP Write":     second(u.Write([]byte("x"))),
	} {
		wantIs(t, what, err, net.ErrClosed)
	}
	for _, c := range []net.Conn{in, full2, half2, lingering2} { // b's ends
		c.Close()
	}
	for _, c := range []net.Conn{out, full, half, passive} { // closing what is closed is legal
		c.Close()
	}
	if s := a.snapshot(); s.Dropped() != 0 {
		t.Errorf("dropped %v", s.Drops)
	}
}

func second[T any](_ T, err error) error { return err }

// TestCloseTellsPeers: the resets of Close still come out of the device.
func TestCloseTellsPeers(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	defer d.Close()
	a.Close()
	d.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := d.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the peer's Read: %v", err)
	}
	c.Close()
}

// TestDrain: Close of the stack after Drain loses nothing that was written before Close of a
// connection; Drain ends with its context while the peer does not read.
func TestDrain(t *testing.T) {
	n := newNetwork(t)
	a, b := n.add(1, Config{}), n.add(2, Config{})
	pass := &path{delay: 20 * time.Millisecond}
	pass.attach(n)
	n.join()
	c, d := connected(a, b)
	open, open2 := connected(a, b)
	defer open2.Close()
	stuck, stuck2 := connected(a, b)
	data := make([]byte, scaled(2<<20))
	got := make(chan int)
	go func() {
		n, err := io.Copy(io.Discard, readerOnly{d})
		if err != nil {
			t.Errorf("Read: %v", err)
		}
		got <- int(n)
	}()
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := a.Drain(a.context()); err != nil {
		t.Errorf("Drain: %v", err)
	}
	if n := <-got; n != len(data) {
		t.Errorf("%d of %d bytes arrived", n, len(data))
	}
	d.Close()

	fill(t, stuck)
	stuck.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := a.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain of a connection whose peer does not read: %v", err)
	}
	go io.Copy(io.Discard, readerOnly{stuck2})
	if err := a.Drain(a.context()); err != nil {
		t.Errorf("Drain: %v", err)
	}
	stuck2.Close()
	a.flush()
	eventually(t, "closed connections are forgotten", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.closing) == 0
	})
	open.Close()
	a.Close()
	if err := a.Drain(t.Context()); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Errorf("Drain after Close: %v", err)
	}
}

// TestNewClose starts and closes stacks, with dials to nowhere under way: goroutines and
// memory stay flat. (Goroutines left at the end fail the test run.)
func TestNewClose(t *testing.T) {
	cycle := func() {
		s, err := New(Config{Addrs: []netip.Addr{v6(1), v4(1)}})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if _, err := s.DialTCP(context.Background(), netip.AddrPort{}, netip.AddrPortFrom(v6(50), uint16(i+1))); !errors.Is(err, net.ErrClosed) {
					t.Errorf("Dial: %v", err)
				}
			})
		}
		start := time.Now()
		s.Close()
		if d := time.Since(start); d > 3*time.Second {
			t.Fatalf("Close took %v", d)
		}
		wg.Wait()
	}
	for range 20 {
		cycle()
	}
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	for range 200 {
		cycle()
	}
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
	if grown := int64(heapInUse()) - int64(heap); grown > 5<<20 {
		t.Errorf("200 stacks left %d bytes", grown)
	}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestConcurrentDials: a thousand at once.
func TestConcurrentDials(t *testing.T) {
	a, b := two(t, Config{})
	l, at := b.listen()
	dials := scaled(1000)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range dials {
			c, err := l.Accept()
			if err != nil {
				t.Errorf("Accept: %v", err)
				return
			}
			c.Close()
		}
	})
	for range dials {
		wg.Go(func() {
			c, err := a.DialTCP(a.context(), netip.AddrPort{}, at)
			if err != nil {
				t.Errorf("Dial: %v", err)
				return
			}
			c.Close()
		})
	}
	wg.Wait()
	l.Close()
	a.n.noDrops()
}

// TestDeadPeers: dials to peers that never answer take nothing from those that do.
func TestDeadPeers(t *testing.T) {
	a, b := two(t, Config{})
	l, at := b.listen()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range scaled(900) {
		wg.Go(func() {
			c, err := a.DialTCP(ctx, netip.AddrPort{}, netip.AddrPortFrom(v6(byte(10+i%200)), 80))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Dial to a dead peer: %v, %v", c, err)
			}
		})
	}
	start := time.Now()
	for range 100 {
		if !reached(t, a, l, at) {
			t.Fatal("refused")
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("100 dials took %v", d)
	}
	cancel()
	wg.Wait()
	l.Close()
}

// TestHalfOpen: SYNs that are never finished keep nobody out.
func TestHalfOpen(t *testing.T) {
	a, b := two(t, Config{})
	l, at := b.listen()
	for i := range 5000 {
		b.write(rawTCP(tcpSegment{src: netip.AddrPortFrom(v6(77), uint16(1000+i)), dst: at, seq: uint32(i), flags: header.TCPFlagSyn}))
	}
	for range 20 {
		if !reached(t, a, l, at) {
			t.Fatal("refused")
		}
	}
	// Data flows on a connection made by a SYN cookie, too.
	c := a.dial(at)
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("x"))
	if _, err := d.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	c.Close()
	d.Close()
	l.Close()
	a.n.noDrops()
}

// TestScan probes TCP and UDP ports by the thousand; it panics nothing, and leaves no memory behind.
func TestScan(t *testing.T) {
	s := alone(t, Config{})
	scan := func(step int) {
		for port := 1; port < 65536; port += step {
			from, to := netip.AddrPortFrom(v6(2), 40000), netip.AddrPortFrom(v6(1), uint16(port))
			from4, to4 := netip.AddrPortFrom(v4(2), 40000), netip.AddrPortFrom(v4(1), uint16(port))
			s.Write([][]byte{
				rawTCP(tcpSegment{src: from, dst: to, flags: header.TCPFlagSyn}),
				rawTCP(tcpSegment{src: from4, dst: to4, flags: header.TCPFlagFin}),
				rawUDP(from, to, []byte("probe")), rawUDP(from4, to4, nil),
			}, 0)
			if port%64 == 0 {
				s.sent()
			}
		}
		s.sent()
	}
	scan(64)
	heap := heapInUse()
	scan(scanStep())
	if grown := int64(heapInUse()) - int64(heap); grown > 5<<20 {
		t.Errorf("the scan left %d bytes", grown)
	}
	if got := s.snapshot(); got.In < 4*2000 || got.Out == 0 {
		t.Errorf("in %d, out %d", got.In, got.Out)
	}
}

func scanStep() int {
	if underRace {
		return 32
	}
	return 4
}

// TestBuffersReturn: every packet buffer of ours and of gVisor's that a transfer used is free
// afterwards.
func TestBuffersReturn(t *testing.T) {
	a, b := two(t, Config{})
	transfer := func() {
		c, d := connected(a, b)
		stop := make(chan struct{})
		go func() {
			time.Sleep(100 * time.Millisecond)
			close(stop)
		}()
		bulk(c, d, stop)
		d.Close()
	}
	transfer()
	heap := heapInUse()
	for range 10 {
		transfer()
	}
	if grown := int64(heapInUse()) - int64(heap); grown > 16<<20 {
		t.Errorf("ten transfers left %d bytes", grown)
	}
	if n := a.out.Len() + b.out.Len(); n > 2 {
		t.Errorf("%d packets are left in the devices", n)
	}
}

// TestIdleMemory: an idle connection costs under 64 KiB, both ends together under 128.
func TestIdleMemory(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	defer c.Close()
	defer d.Close()
	heap := heapInUse()
	const conns = 200
	var open []net.Conn
	for range conns {
		c, d := connected(a, b)
		open = append(open, c, d)
	}
	per := (int64(heapInUse()) - int64(heap)) / (2 * conns)
	t.Logf("%d bytes", per)
	if per > 64<<10 {
		t.Errorf("an idle end of a connection takes %d bytes", per)
	}
	for _, c := range open {
		c.Close()
	}
}
