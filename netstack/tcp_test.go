//go:build !js

package netstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// TestConn runs the standard conformance suite over two stacks, and over one to itself.
func TestConn(t *testing.T) {
	for name, ids := range map[string][2]byte{"two stacks": {1, 2}, "one stack": {1, 1}} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				n := newNetwork(t)
				for _, id := range []byte{1, 2} {
					n.add(id, Config{})
				}
				n.join()
				c1, c2 = connected(n.stacks[v6(ids[0])], n.stacks[v6(ids[1])])
				return c1, c2, func() {
					c1.Close()
					c2.Close()
					for _, nd := range n.stacks {
						nd.Close()
					}
				}, nil
			})
		})
	}
}

// TestOptions pins what the measurements chose.
func TestOptions(t *testing.T) {
	a, _ := two(t, Config{})
	var (
		sack       tcpip.TCPSACKEnabled
		recovery   tcpip.TCPRecovery
		congestion tcpip.CongestionControlOption
	)
	for _, o := range []tcpip.GettableTransportProtocolOption{&sack, &recovery, &congestion} {
		if err := a.net.TransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			t.Fatal(err)
		}
	}
	if !sack || recovery != lossRecovery(runtime.GOOS) || congestion != "cubic" {
		t.Errorf("SACK %v, recovery %v, congestion control %q", sack, recovery, congestion)
	}
	for goos, want := range map[string]tcpip.TCPRecovery{"linux": tcpip.TCPRACKLossDetection, "darwin": tcpip.TCPRACKLossDetection, "windows": 0, "js": 0} {
		if got := lossRecovery(goos); got != want {
			t.Errorf("recovery on %s: %v, want %v", goos, got, want)
		}
	}
}

func wantIs(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("%s: error %T is no *net.OpError", what, err)
	}
}

func wantTimeout(t *testing.T, what string, err error) {
	t.Helper()
	wantIs(t, what, err, os.ErrDeadlineExceeded)
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("%s: error %v is no timeout", what, err)
	}
}

func TestErrorsAfterClose(t *testing.T) {
	a, b := two(t, Config{})
	c, _ := connected(a, b)
	c.SetDeadline(time.Now().Add(-time.Second))
	_, err := c.Read(make([]byte, 1))
	wantTimeout(t, "Read after the deadline", err)
	if err := c.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	_, err = c.Read(make([]byte, 1))
	wantIs(t, "Read", err, net.ErrClosed)
	_, err = c.Read(nil)
	wantIs(t, "empty Read", err, net.ErrClosed)
	_, err = c.Write([]byte("x"))
	wantIs(t, "Write", err, net.ErrClosed)
	_, err = c.Write(nil)
	wantIs(t, "empty Write", err, net.ErrClosed)
	wantIs(t, "Close", c.Close(), net.ErrClosed)
	wantIs(t, "CloseWrite", c.(*tcpConn).CloseWrite(), net.ErrClosed)
	wantIs(t, "CloseRead", c.(*tcpConn).CloseRead(), net.ErrClosed)
	wantIs(t, "SetDeadline", c.SetDeadline(time.Now()), net.ErrClosed)
	if c.LocalAddr().(*net.TCPAddr) == nil || c.RemoteAddr().(*net.TCPAddr) == nil {
		t.Error("no addresses after Close")
	}
}

// TestCloseWakes: Close ends calls that wait.
func TestCloseWakes(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	defer d.Close()
	fill(t, c)
	errs := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		errs <- err
	}()
	go func() {
		_, err := c.Write(make([]byte, 64<<20))
		errs <- err
	}()
	stays(t, errs)
	c.Close()
	wantIs(t, "call", <-errs, net.ErrClosed)
	wantIs(t, "call", <-errs, net.ErrClosed)
}

// fill writes until nothing more is taken: the peer does not read.
func fill(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	_, err := c.Write(make([]byte, 64<<20))
	wantTimeout(t, "Write to a peer that does not read", err)
	c.SetWriteDeadline(time.Time{})
}

// stays reports an error if something comes that should still be waiting. It can only err on
// the side of not noticing.
func stays[T any](t *testing.T, c <-chan T) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("returned %v, should wait", v)
	case <-time.After(20 * time.Millisecond):
	}
}

// TestDeadlines sets deadlines for a call that waits already.
func TestDeadlines(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	defer d.Close()
	defer c.Close()
	errs := make(chan error, 1)
	read := func() {
		go func() {
			_, err := c.Read(make([]byte, 1))
			errs <- err
		}()
	}
	read()
	stays(t, errs)
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	wantTimeout(t, "set while waiting", <-errs)

	c.SetReadDeadline(time.Now().Add(time.Hour))
	read()
	stays(t, errs)
	c.SetReadDeadline(time.Now().Add(-time.Second))
	wantTimeout(t, "set to the past while waiting", <-errs)

	c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	read()
	c.SetReadDeadline(time.Now().Add(time.Hour)) // extended
	time.Sleep(50 * time.Millisecond)
	stays(t, errs)
	c.SetReadDeadline(time.Time{}) // cleared
	stays(t, errs)
	d.Write([]byte("x"))
	if err := <-errs; err != nil {
		t.Errorf("Read after the deadline was cleared: %v", err)
	}
}

// TestReset: a reset is told to Read and Write, and is never taken for the end of the stream.
func TestReset(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	defer c.Close()
	c.Write([]byte("unread"))
	io.ReadFull(d, make([]byte, 1))
	d.Close() // with 5 bytes unread: a reset
	_, err := c.Read(make([]byte, 1))
	wantIs(t, "Read", err, syscall.ECONNRESET)
	_, err = c.Write([]byte("x"))
	wantIs(t, "Write", err, syscall.ECONNRESET)
	_, err = c.Read(make([]byte, 1))
	wantIs(t, "second Read", err, syscall.ECONNRESET)
}

// TestResetSeenByWrite: the Write that meets the reset does not hide it from Read.
func TestResetSeenByWrite(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	defer c.Close()
	c.Write([]byte("unread"))
	io.ReadFull(d, make([]byte, 1))
	d.Close()
	var err error
	for err == nil {
		_, err = c.Write([]byte("x"))
	}
	wantIs(t, "Write", err, syscall.ECONNRESET)
	_, err = c.Read(make([]byte, 1))
	wantIs(t, "Read", err, syscall.ECONNRESET)
}

func TestWriteAfterCloseWrite(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	defer d.Close()
	defer c.Close()
	c.(*tcpConn).CloseWrite()
	_, err := c.Write([]byte("x"))
	wantIs(t, "Write after CloseWrite", err, syscall.EPIPE)
	c.(*tcpConn).CloseRead()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read after CloseRead: %v, want io.EOF", err)
	}
}

func TestDialErrors(t *testing.T) {
	n := newNetwork(t)
	a := n.add(1, Config{Routes: []netip.Prefix{netip.MustParsePrefix("fd07::/64"), netip.MustParsePrefix("10.7.0.0/16")}})
	n.add(2, Config{})
	n.join()
	for _, to := range []netip.Addr{v6(2), v4(2), v6(1), v4(1)} {
		c, err := a.DialTCP(a.context(), netip.AddrPort{}, netip.AddrPortFrom(to, 9))
		wantIs(t, "closed port of "+to.String(), err, syscall.ECONNREFUSED)
		if c != nil {
			t.Errorf("a connection (%T) with an error", c)
		}
	}
	for _, to := range []string{"[2001:db8::1]:80", "192.0.2.1:80"} {
		_, err := a.DialTCP(a.context(), netip.AddrPort{}, netip.MustParseAddrPort(to))
		wantIs(t, "no route to "+to, err, syscall.ENETUNREACH)
		_, err = a.DialUDP(a.context(), netip.AddrPort{}, netip.MustParseAddrPort(to))
		wantIs(t, "no route to "+to, err, syscall.ENETUNREACH)
	}
	_, err := a.DialTCP(a.context(), netip.AddrPortFrom(v6(9), 0), netip.AddrPortFrom(v6(2), 9))
	wantIs(t, "foreign local address", err, syscall.EADDRNOTAVAIL)
	l, at := a.listen()
	defer l.Close()
	_, err = a.DialTCP(a.context(), at, netip.AddrPortFrom(v6(2), 9))
	wantIs(t, "local port in use", err, syscall.EADDRINUSE)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	silent := netip.AddrPortFrom(v6(77), 80) // nobody
	_, err = a.DialTCP(ctx, netip.AddrPort{}, silent)
	wantIs(t, "context ran out", err, context.DeadlineExceeded)
	if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("error %v is no timeout", err)
	}
	why := errors.New("why")
	cctx, ccancel := context.WithCancelCause(t.Context())
	ccancel(why)
	_, err = a.DialTCP(cctx, netip.AddrPort{}, silent)
	wantIs(t, "context cancelled", err, why)
	_, err = a.DialUDP(cctx, netip.AddrPort{}, silent)
	wantIs(t, "context cancelled", err, why)

	for _, to := range []netip.AddrPort{{}, netip.AddrPortFrom(v6(2), 0), netip.AddrPortFrom(netip.MustParseAddr("ff02::1"), 1), netip.AddrPortFrom(v6(2).WithZone("x"), 1)} {
		if _, err := a.DialTCP(a.context(), netip.AddrPort{}, to); err == nil {
			t.Errorf("DialTCP to %v succeeded", to)
		}
		if _, err := a.DialUDP(a.context(), netip.AddrPort{}, to); err == nil {
			t.Errorf("DialUDP to %v succeeded", to)
		}
	}
	if _, err := a.DialTCP(a.context(), netip.AddrPortFrom(v4(1), 0), netip.AddrPortFrom(v6(2), 9)); err == nil {
		t.Error("dialled IPv6 from IPv4")
	}
}

// TestDialUnspecified: as in package net, the unspecified address is the node itself, so that
// the address of a wildcard listener can be dialled.
func TestDialUnspecified(t *testing.T) {
	a, _ := two(t, Config{})
	l, _ := a.listen()
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	for _, to := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		c := a.dial(netip.AddrPortFrom(to, port))
		d, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if c.LocalAddr().String() != d.RemoteAddr().String() || c.RemoteAddr().String() != d.LocalAddr().String() {
			t.Errorf("addresses do not match: %v %v, %v %v", c.LocalAddr(), c.RemoteAddr(), d.LocalAddr(), d.RemoteAddr())
		}
		c.Close()
		d.Close()
	}
}

// TestDialLocalPort binds the near end.
func TestDialLocalPort(t *testing.T) {
	a, b := two(t, Config{})
	l, at := b.listen()
	defer l.Close()
	c, err := a.DialTCP(a.context(), netip.AddrPortFrom(v6(1), 4321), at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if want := netip.AddrPortFrom(v6(1), 4321).String(); c.LocalAddr().String() != want {
		t.Errorf("local address %v, want %s", c.LocalAddr(), want)
	}
}

// TestHalfClose: the side that was closed first still gets what the other sends after.
func TestHalfClose(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	defer c.Close()
	down, up := bytes.Repeat([]byte("down"), scaled(5<<18)), bytes.Repeat([]byte("up"), scaled(1<<19))
	var wg sync.WaitGroup
	wg.Go(func() { // the server
		defer d.Close()
		if _, err := d.Write(down); err != nil {
			t.Errorf("Write: %v", err)
		}
		if err := d.(*tcpConn).CloseWrite(); err != nil {
			t.Errorf("CloseWrite: %v", err)
		}
		if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, up) {
			t.Errorf("the server read %d of %d bytes, %v", len(got), len(up), err)
		}
	})
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, down) {
		t.Errorf("the client read %d of %d bytes, %v", len(got), len(down), err)
	}
	if _, err := c.Write(up); err != nil {
		t.Errorf("Write after the end of the other direction: %v", err)
	}
	c.Close()
	wg.Wait()
}

// TestCloseDelivers: Close right after Write loses nothing.
func TestCloseDelivers(t *testing.T) {
	a, b := two(t, Config{})
	l, at := b.listen()
	defer l.Close()
	data := bytes.Repeat([]byte("0123456789abcdef"), scaled(1<<16))
	for range scaled(48) {
		c := a.dial(at)
		d, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Write(data); err != nil {
				t.Errorf("Write: %v", err)
			}
			c.Close()
		})
		got, err := io.ReadAll(d)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("read %d of %d bytes, %v", len(got), len(data), err)
		}
		d.Close()
		wg.Wait()
	}
}

// TestWritesStayTogether: bytes of concurrent Writes are not mixed.
func TestWritesStayTogether(t *testing.T) {
	a, b := two(t, Config{SendBuffer: 32 << 10})
	c, d := connected(a, b)
	const size, writers = 100 << 10, 8
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				t.Errorf("Write: %v", err)
			}
		})
	}
	p := make([]byte, size)
	for range writers {
		if _, err := io.ReadFull(d, p); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, bytes.Repeat(p[:1], size)) {
			t.Fatal("two Writes are mixed")
		}
	}
	wg.Wait()
	c.Close()
	d.Close()
}

// TestWindowReopens: a window of 0 that opens again is announced, whatever sizes Read has and
// however the receive buffer grows meanwhile. Without widen the sender of nearly every
// connection waits for its probe, after 200 ms, at least once; a busy machine may cause few.
func TestWindowReopens(t *testing.T) {
	a, b := two(t, Config{MTU: 60000})
	const rounds = 10
	for range rounds {
		c, d := connected(a, b)
		var wg sync.WaitGroup
		wg.Go(func() {
			c.Write(make([]byte, scaled(8<<20)))
			c.Close()
		})
		io.CopyBuffer(io.Discard, readerOnly{d}, make([]byte, 32<<10))
		d.Close()
		wg.Wait()
	}
	if n := a.net.Stats().TCP.Timeouts.Value(); n > rounds/2 {
		t.Errorf("%d timeouts in %d connections over a path without loss", n, rounds)
	}
}

// TestVanishedPeer: with the path cut, Read and Write return within Config.KeepAlive.
func TestVanishedPeer(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	cut := make(chan struct{})
	n.pass = dropAfter(cut)
	cfg := Config{KeepAlive: 2 * time.Second}
	a, b := n.add(1, cfg), n.add(2, cfg)
	n.join()
	idle, idle2 := connected(a, b)
	busy, busy2 := connected(a, b)
	defer idle2.Close()
	defer busy2.Close()
	close(cut)
	start := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := idle.Read(make([]byte, 1))
		wantIs(t, "idle Read", err, syscall.ETIMEDOUT)
	})
	wg.Go(func() {
		if _, err := busy.Write([]byte("x")); err != nil {
			t.Errorf("Write into the buffer: %v", err)
		}
		_, err := busy.Read(make([]byte, 1))
		wantIs(t, "Read with data under way", err, syscall.ETIMEDOUT)
		_, err = busy.Write([]byte("x"))
		wantIs(t, "Write after that", err, syscall.ETIMEDOUT)
	})
	wg.Wait()
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("noticed after %v", d)
	}
	idle.Close()
	busy.Close()
}

// TestSlowReader: a peer that lives but does not read is not given up.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	cfg := Config{KeepAlive: 2 * time.Second}
	a, b := two(t, cfg)
	c, d := connected(a, b)
	fill(t, c)
	time.Sleep(3 * time.Second)
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(io.Discard, readerOnly{d}) })
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("Write to a peer that did not read for longer than KeepAlive: %v", err)
	}
	c.Close()
	wg.Wait()
	d.Close()
}
