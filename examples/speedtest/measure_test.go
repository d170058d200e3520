package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veil-net/anchor/examples/speedtest/peers"
)

// fake is a pair of in-memory pipes whose client ends a test can change.
type fake struct {
	handle peers.Handler
	wrap   func(n int, c net.Conn) net.Conn // n counts the dials from 0
	wg     sync.WaitGroup
	dials  int
	conns  []net.Conn
	closed bool
}

func (f *fake) Name() string { return "fake" }

func (f *fake) Dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	f.conns = append(f.conns, near)
	f.wg.Go(func() {
		defer far.Close()
		f.handle(far)
	})
	n := f.dials
	f.dials++
	if f.wrap != nil {
		if near = f.wrap(n, near); near == nil {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
	}
	return near, nil
}

func (f *fake) Close() error {
	f.closed = true
	for _, c := range f.conns {
		c.Close()
	}
	f.wg.Wait()
	return nil
}

// contender returns a contender that opens f.
func (f *fake) contender() contender {
	return contender{"fake", func(_ context.Context, h peers.Handler) (peers.Pair, error) {
		f.handle = h
		return f, nil
	}}
}

// slowConn takes a known time for each byte read, and limits what is written.
type slowConn struct {
	net.Conn
	delay   time.Duration
	limit   int // bytes that Write still takes; below 0: any
	swallow bool
}

func (c *slowConn) Read(p []byte) (int, error) {
	time.Sleep(c.delay)
	return c.Conn.Read(p)
}

func (c *slowConn) Write(p []byte) (int, error) {
	if c.limit == 0 {
		if c.swallow {
			time.Sleep(time.Millisecond)
			return len(p), nil
		}
		return 0, io.ErrClosedPipe
	}
	if c.limit > 0 {
		p = p[:min(len(p), c.limit)]
		c.limit -= len(p)
	}
	return c.Conn.Write(p)
}

func TestMeasureCounts(t *testing.T) {
	const delay = 2 * time.Millisecond
	f := &fake{wrap: func(_ int, c net.Conn) net.Conn { return &slowConn{Conn: c, delay: delay, limit: -1} }}
	r, err := measure(t.Context(), f.contender(), quick)
	if err != nil {
		t.Fatal(err)
	}
	if !f.closed {
		t.Error("the pair was left open")
	}
	if want := 1 + quick.dials + 1 + quick.streams; f.dials != want {
		t.Errorf("%d dials, want %d", f.dials, want)
	}
	if r.RTTP50us < us(delay) || r.RTTP99us < r.RTTP50us || r.ConnectMS < ms(delay) {
		t.Errorf("the delay of a read does not show: %+v", r)
	}
	if r.DialP50MS >= ms(delay) {
		t.Errorf("a dial of a pipe took %v ms", r.DialP50MS)
	}
	// The server's goroutine for the one connection; the pipe has none.
	if r.Goroutines < 1 || r.Goroutines > 3 {
		t.Errorf("%d goroutines, want that of the connection's server", r.Goroutines)
	}
	if r.TputMbps <= 0 || r.Tput4Mbps <= 0 {
		t.Errorf("no throughput: %+v", r)
	}
}

// TestThroughputCountsArrivals: what a contender takes and does not deliver is not throughput.
func TestThroughputCountsArrivals(t *testing.T) {
	f := &fake{wrap: func(n int, c net.Conn) net.Conn {
		if n > quick.dials { // the stream of the one-stream run: its service byte passes
			return &slowConn{Conn: c, limit: 1, swallow: true}
		}
		return c
	}}
	_, err := measure(t.Context(), f.contender(), quick)
	if err == nil || !strings.Contains(err.Error(), "one stream: nothing arrived") {
		t.Errorf("measure = %v, want that nothing arrived", err)
	}
}

func TestBrokenStreamIsAnError(t *testing.T) {
	f := &fake{wrap: func(n int, c net.Conn) net.Conn {
		if n > quick.dials {
			return &slowConn{Conn: c, limit: 1 << 20}
		}
		return c
	}}
	_, err := measure(t.Context(), f.contender(), quick)
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("measure = %v, want the error of the write", err)
	}
}

func TestStuckDialEndsWithContext(t *testing.T) {
	f := &fake{wrap: func(int, net.Conn) net.Conn { return nil }}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, err := measure(ctx, f.contender(), quick); !errors.Is(err, cause) {
		t.Errorf("measure = %v, want what ended its context", err)
	}
	if !f.closed {
		t.Error("the pair was left open")
	}
}

func TestQuantile(t *testing.T) {
	d := make([]time.Duration, 100)
	for i := range d {
		d[len(d)-1-i] = time.Duration(i + 1)
	}
	for _, test := range []struct {
		q    float64
		want time.Duration
	}{{0, 1}, {0.5, 51}, {0.99, 100}, {1, 100}} {
		if got := quantile(d, test.q); got != test.want {
			t.Errorf("quantile(%v) = %v, want %v", test.q, got, test.want)
		}
	}
	if got := quantile([]time.Duration{7}, 0.5); got != 7 {
		t.Errorf("quantile of one = %v", got)
	}
}

func TestCPUTimeGrowsWithWork(t *testing.T) {
	start := cpuTime()
	for deadline := time.Now().Add(10 * time.Second); cpuTime() == start; {
		if time.Now().After(deadline) {
			t.Fatal("10 s of work cost no processor time")
		}
	}
	if residentMB() < 1 {
		t.Errorf("resident memory: %v MB", residentMB())
	}
}
