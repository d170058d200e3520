package peers

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pairs are the baselines; each test holds for all of them.
var pairs = map[string]func(Handler) (Pair, error){"raw": Raw, "wireguard": WireGuard}

func forEachPair(t *testing.T, handle Handler, test func(t *testing.T, p Pair)) {
	for name, open := range pairs {
		t.Run(name, func(t *testing.T) {
			p, err := open(handle)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if p.Name() != name {
				t.Errorf("Name() = %q, want %q", p.Name(), name)
			}
			test(t, p)
		})
	}
}

func dial(t *testing.T, p Pair) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := p.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func TestEcho(t *testing.T) {
	forEachPair(t, echo, func(t *testing.T, p Pair) {
		for range 3 { // several connections at once
			c := dial(t, p)
			defer c.Close()
			for _, size := range []int{1, 64, 1000, 30_000} {
				sent := make([]byte, size)
				rand.Read(sent)
				if _, err := c.Write(sent); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, size)
				if _, err := io.ReadFull(c, got); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, sent) {
					t.Fatalf("%d bytes came back changed", size)
				}
			}
		}
	})
}

// TestBulk sends more than every buffer on the way holds, so that the sender has to wait and
// go on; the sum of the bytes does not depend on the order of messages.
func TestBulk(t *testing.T) {
	const size = 6 << 20
	type total struct{ n, sum uint64 }
	arrived := make(chan total, 1)
	count := func(c net.Conn) {
		var got total
		buf := make([]byte, 64<<10)
		for got.n < size {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			got.n += uint64(n)
			for _, b := range buf[:n] {
				got.sum += uint64(b)
			}
		}
		arrived <- got
	}
	forEachPair(t, count, func(t *testing.T, p Pair) {
		c := dial(t, p)
		defer c.Close()
		var want total
		chunk := make([]byte, 256<<10)
		rand.Read(chunk)
		for want.n < size {
			n, err := c.Write(chunk)
			if err != nil {
				t.Fatal(err)
			}
			want.n += uint64(n)
			for _, b := range chunk[:n] {
				want.sum += uint64(b)
			}
		}
		if got := <-arrived; got != want {
			t.Errorf("arrived: %+v, sent: %+v", got, want)
		}
	})
}

func TestCloseEndsPendingCalls(t *testing.T) {
	release := make(chan struct{})
	ignore := func(net.Conn) { <-release } // reads nothing, so a writer gets stuck
	forEachPair(t, ignore, func(t *testing.T, p Pair) {
		c := dial(t, p)
		ended := make(chan error, 2)
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		go func() {
			buf := make([]byte, 256<<10)
			for {
				if _, err := c.Write(buf); err != nil {
					ended <- err
					return
				}
			}
		}()
		time.Sleep(50 * time.Millisecond) // lets both get stuck; the test holds without it
		c.Close()
		for range 2 {
			if err := <-ended; err == nil {
				t.Error("a pending call ended without an error")
			}
		}
		release <- struct{}{}
	})
}

func TestPeerCloseEndsRead(t *testing.T) {
	forEachPair(t, func(net.Conn) {}, func(t *testing.T, p Pair) {
		c := dial(t, p)
		defer c.Close()
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read after the peer closed: %v", err)
		}
	})
}

func TestDialEndsWithContext(t *testing.T) {
	forEachPair(t, echo, func(t *testing.T, p Pair) {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if c, err := p.Dial(ctx); !errors.Is(err, cause) {
			t.Errorf("Dial = %v, %v; want the cause of the context", c, err)
		}
	})
}

func TestDialAfterClose(t *testing.T) {
	forEachPair(t, echo, func(t *testing.T, p Pair) {
		open := dial(t, p)
		for range 2 {
			if err := p.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if _, err := open.Write([]byte("x")); err == nil {
			// A write may still be buffered; a read must not wait.
			if _, err := open.Read(make([]byte, 1)); err == nil {
				t.Error("a connection outlived its pair")
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if c, err := p.Dial(ctx); err == nil {
			c.Close()
			t.Error("Dial after Close succeeded")
		}
	})
}
