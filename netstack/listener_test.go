//go:build !js

package netstack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"
)

// reached reports whether a connection to the address comes out at l.
func reached(t *testing.T, from *node, l net.Listener, to netip.AddrPort) bool {
	t.Helper()
	c, err := from.DialTCP(from.context(), netip.AddrPort{}, to)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.LocalAddr().String() != to.String() || d.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("accepted %v from %v, dialled %v from %v", d.LocalAddr(), d.RemoteAddr(), to, c.LocalAddr())
	}
	return true
}

func TestListenFamilies(t *testing.T) {
	a, b := two(t, Config{})
	for _, tc := range []struct {
		network string
		at      netip.Addr
		v4, v6  bool
		addr    string
	}{
		{"tcp", netip.Addr{}, true, true, "::"},
		{"tcp", netip.IPv6Unspecified(), true, true, "::"},
		{"tcp", netip.IPv4Unspecified(), true, false, "0.0.0.0"},
		{"tcp4", netip.Addr{}, true, false, "0.0.0.0"},
		{"tcp6", netip.Addr{}, false, true, "::"},
		{"tcp6", netip.IPv6Unspecified(), false, true, "::"},
		{"tcp", v6(2), false, true, v6(2).String()},
		{"tcp", v4(2), true, false, v4(2).String()},
		{"tcp", netip.AddrFrom16(v4(2).As16()), true, false, v4(2).String()},
		{"tcp4", v4(2), true, false, v4(2).String()},
		{"tcp6", v6(2), false, true, v6(2).String()},
	} {
		t.Run(fmt.Sprintf("%s %v", tc.network, tc.at), func(t *testing.T) {
			l, err := b.ListenTCP(tc.network, netip.AddrPortFrom(tc.at, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			at := l.Addr().(*net.TCPAddr)
			if at.Port == 0 || at.IP.String() != tc.addr {
				t.Errorf("listens on %v", at)
			}
			for _, to := range []netip.Addr{v4(2), v6(2)} {
				want := tc.v4 && to.Is4() || tc.v6 && to.Is6()
				for _, from := range []*node{a, b} {
					if got := reached(t, from, l, netip.AddrPortFrom(to, uint16(at.Port))); got != want {
						t.Errorf("%d reaches %v: %v, want %v", from.id, to, got, want)
					}
				}
			}
		})
	}
}

func TestListenErrors(t *testing.T) {
	a, _ := two(t, Config{})
	l, at := a.listen()
	defer l.Close()
	for _, network := range []string{"tcp", "tcp4", "tcp6"} {
		_, err := a.ListenTCP(network, netip.AddrPortFrom(netip.Addr{}, at.Port()))
		wantIs(t, "port in use, "+network, err, syscall.EADDRINUSE)
	}
	for _, own := range []netip.Addr{v4(1), v6(1)} {
		_, err := a.ListenTCP("tcp", netip.AddrPortFrom(own, at.Port()))
		wantIs(t, "port in use by the wildcard", err, syscall.EADDRINUSE)
	}
	_, err := a.ListenTCP("tcp", netip.AddrPortFrom(v6(9), 0))
	wantIs(t, "foreign address", err, syscall.EADDRNOTAVAIL)
	for _, tc := range []struct {
		network string
		at      netip.Addr
	}{{"udp", netip.Addr{}}, {"", netip.Addr{}}, {"tcp4", v6(1)}, {"tcp6", v4(1)}, {"tcp4", netip.IPv6Unspecified()}} {
		if l, err := a.ListenTCP(tc.network, netip.AddrPortFrom(tc.at, 0)); err == nil || l != nil {
			t.Errorf("ListenTCP %q %v: %v", tc.network, tc.at, err)
		}
	}
	// The families are apart where they were asked for apart.
	l4, err := a.ListenTCP("tcp4", netip.AddrPortFrom(netip.Addr{}, 4000))
	if err != nil {
		t.Fatal(err)
	}
	defer l4.Close()
	l6, err := a.ListenTCP("tcp6", netip.AddrPortFrom(netip.Addr{}, 4000))
	if err != nil {
		t.Fatalf("tcp6 beside tcp4: %v", err)
	}
	l6.Close()
}

func TestListenerClose(t *testing.T) {
	a, b := two(t, Config{})
	l, at := b.listen()
	done := make(chan error)
	for range 2 {
		go func() {
			_, err := l.Accept()
			done <- err
		}()
	}
	stays(t, done)
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wantIs(t, "waiting Accept", <-done, net.ErrClosed)
	wantIs(t, "waiting Accept", <-done, net.ErrClosed)
	_, err := l.Accept()
	wantIs(t, "Accept", err, net.ErrClosed)
	wantIs(t, "Close", l.Close(), net.ErrClosed)
	wantIs(t, "SetDeadline", l.(*listener).SetDeadline(time.Now()), net.ErrClosed)
	start := time.Now()
	_, err = a.DialTCP(a.context(), netip.AddrPort{}, at)
	wantIs(t, "Dial after Close", err, syscall.ECONNREFUSED)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("refused after %v only", d)
	}
}

// TestListenerCloseResets: whoever was not accepted is reset, whoever was lives on.
func TestListenerCloseResets(t *testing.T) {
	a, b := two(t, Config{})
	l, at := b.listen()
	accepted := a.dial(at)
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	waiting := a.dial(at)
	defer waiting.Close()
	a.flush()
	l.Close()
	_, err = waiting.Read(make([]byte, 1))
	wantIs(t, "Read of a connection never accepted", err, syscall.ECONNRESET)
	accepted.Write([]byte("x"))
	if _, err := io.ReadFull(d, make([]byte, 1)); err != nil {
		t.Errorf("accepted connection: %v", err)
	}
	accepted.Close()
	d.Close()
}

func TestListenerDeadline(t *testing.T) {
	a, b := two(t, Config{})
	l, at := b.listen()
	defer l.Close()
	ld := l.(*listener)
	ld.SetDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := l.Accept()
	wantTimeout(t, "Accept", err)
	ld.SetDeadline(time.Time{})
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			c.Close()
		}
		done <- err
	}()
	stays(t, done)
	a.dial(at).Close()
	if err := <-done; err != nil {
		t.Errorf("Accept after the deadline was cleared: %v", err)
	}
}

// TestListenAgain: a listener can follow another on the same port at once, although
// connections of the first are open and others are closing.
func TestListenAgain(t *testing.T) {
	a, b := two(t, Config{})
	l, at := b.listen()
	var open []net.Conn
	for i := range 4 {
		c := a.dial(at)
		d, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c, d)
		if i%2 == 0 {
			d.Close() // the listening side first: it goes through TIME-WAIT
			io.Copy(io.Discard, readerOnly{c})
			c.Close()
		}
	}
	a.flush()
	l.Close()
	l2, err := b.ListenTCP("tcp", netip.AddrPortFrom(netip.Addr{}, at.Port()))
	if err != nil {
		t.Fatalf("second listener: %v", err)
	}
	if !reached(t, a, l2, at) {
		t.Error("the second listener is not reached")
	}
	l2.Close()
	for _, c := range open {
		c.Close()
	}
}

// TestNobodyAccepts: a listener that is never asked fills its backlog, and freezes nothing
// else: not other listeners, not the device, not the connections that wait.
func TestNobodyAccepts(t *testing.T) {
	a, b := two(t, Config{})
	dead, deadAt := b.listen()
	defer dead.Close()
	live, liveAt := b.listen()
	defer live.Close()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var waiting []net.Conn
	for range backlog {
		wg.Go(func() {
			c, err := a.DialTCP(a.context(), netip.AddrPort{}, deadAt)
			if err != nil {
				t.Errorf("Dial into the backlog: %v", err)
				return
			}
			mu.Lock()
			waiting = append(waiting, c)
			mu.Unlock()
		})
	}
	wg.Wait()
	for range 10 {
		if !reached(t, a, live, liveAt) {
			t.Fatal("the other listener is not reached")
		}
	}
	// What they sent is there once somebody accepts.
	if len(waiting) > 0 {
		waiting[0].Write([]byte("early"))
		c, err := dead.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	for _, c := range waiting {
		c.Close()
	}
}
