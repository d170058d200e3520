//go:build !js

package netstack

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

func (nd *node) listenUDP(network string, at netip.AddrPort) *udpConn {
	nd.n.t.Helper()
	pc, err := nd.ListenUDP(network, at)
	if err != nil {
		nd.n.t.Fatal(err)
	}
	nd.n.t.Cleanup(func() { pc.Close() })
	return pc.(*udpConn)
}

func (nd *node) connectUDP(to netip.AddrPort) *udpConn {
	nd.n.t.Helper()
	c, err := nd.DialUDP(nd.context(), netip.AddrPort{}, to)
	if err != nil {
		nd.n.t.Fatal(err)
	}
	nd.n.t.Cleanup(func() { c.Close() })
	return c.(*udpConn)
}

func (c *udpConn) port() uint16 { return uint16(c.local.Port) }

// TestUDPSizes sends datagrams of every size that may break something, over IPv4 and IPv6,
// between stacks and within one, and reads them whole, and cut off.
func TestUDPSizes(t *testing.T) {
	sizes := []int{0, 1, 100, 1171, 1172, 1173, 1199, 1200, 1201, 1232, 1280, 1472, 8192, 15952, 15953, 32000, 65487, 65507}
	a, b := two(t, Config{})
	pc := b.listenUDP("udp", netip.AddrPort{})
	self := a.listenUDP("udp", netip.AddrPort{})
	for _, tc := range []struct {
		to   netip.AddrPort
		pc   *udpConn
		most int
	}{
		{netip.AddrPortFrom(v4(2), pc.port()), pc, 65507},
		{netip.AddrPortFrom(v6(2), pc.port()), pc, 65527},
		{netip.AddrPortFrom(v4(1), self.port()), self, 65507},
		{netip.AddrPortFrom(v6(1), self.port()), self, 65527},
	} {
		t.Run(tc.to.String(), func(t *testing.T) {
			c := a.connectUDP(tc.to)
			long, short := make([]byte, 65535), make([]byte, 100)
			for _, size := range append(sizes, tc.most) {
				data := bytes.Repeat([]byte{byte(size), byte(size >> 8)}, size/2+1)[:size]
				for _, p := range [][]byte{long, short, nil} {
					tc.pc.SetReadDeadline(time.Now().Add(20 * time.Second))
					if n, err := c.Write(data); n != size || err != nil {
						t.Fatalf("Write of %d bytes: %d, %v", size, n, err)
					}
					n, from, err := tc.pc.ReadFrom(p)
					if err != nil || n != min(size, len(p)) || !bytes.Equal(p[:n], data[:n]) {
						t.Fatalf("%d bytes into %d: read %d, %v", size, len(p), n, err)
					}
					if from.String() != c.LocalAddr().String() {
						t.Fatalf("from %v, want %v", from, c.LocalAddr())
					}
				}
			}
			for _, size := range []int{tc.most + 1, 65536, 1 << 20} {
				n, err := c.Write(make([]byte, size))
				wantIs(t, fmt.Sprintf("%d bytes", size), err, syscall.EMSGSIZE)
				u := a.listenUDP("udp", netip.AddrPort{})
				m, err := u.WriteTo(make([]byte, size), net.UDPAddrFromAddrPort(tc.to))
				wantIs(t, fmt.Sprintf("WriteTo of %d bytes", size), err, syscall.EMSGSIZE)
				if n != 0 || m != 0 {
					t.Errorf("wrote %d and %d bytes of a datagram that is too long", n, m)
				}
			}
		})
	}
	a.n.noDrops()
}

// TestUDPWildcard: a socket on all addresses receives on each, and answers from the address
// that was asked.
func TestUDPWildcard(t *testing.T) {
	a, b := two(t, Config{})
	for _, tc := range []struct {
		network string
		at      netip.Addr
		v4, v6  bool
	}{
		{"udp", netip.Addr{}, true, true},
		{"udp", netip.IPv6Unspecified(), true, true},
		{"udp", netip.IPv4Unspecified(), true, false},
		{"udp4", netip.Addr{}, true, false},
		{"udp6", netip.Addr{}, false, true},
		{"udp", v6(2), false, true},
		{"udp4", v4(2), true, false},
	} {
		pc, err := b.ListenUDP(tc.network, netip.AddrPortFrom(tc.at, 0))
		if err != nil {
			t.Fatal(err)
		}
		port := pc.(*udpConn).port()
		for _, to := range []netip.Addr{v4(2), v6(2)} {
			want := tc.v4 && to.Is4() || tc.v6 && to.Is6()
			c := a.connectUDP(netip.AddrPortFrom(to, port))
			c.Write([]byte("ask"))
			p := make([]byte, 10)
			if !want {
				_, err := c.Read(p)
				wantIs(t, fmt.Sprintf("%s %v: %v", tc.network, tc.at, to), err, syscall.ECONNREFUSED)
				continue
			}
			n, from, err := pc.ReadFrom(p)
			if err != nil || string(p[:n]) != "ask" {
				t.Fatalf("%s %v: %v: read %q, %v", tc.network, tc.at, to, p[:n], err)
			}
			if _, err := pc.WriteTo([]byte("answer"), from); err != nil {
				t.Fatal(err)
			}
			// The connected socket takes it only if it comes from the address it asked.
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if n, err := c.Read(p); err != nil || string(p[:n]) != "answer" {
				t.Errorf("%s %v: %v: answer %q, %v", tc.network, tc.at, to, p[:n], err)
			}
		}
		pc.Close()
	}
}

func TestUDPListenErrors(t *testing.T) {
	a, _ := two(t, Config{})
	pc := a.listenUDP("udp", netip.AddrPort{})
	taken := netip.AddrPortFrom(netip.Addr{}, pc.port())
	for _, network := range []string{"udp", "udp4", "udp6"} {
		_, err := a.ListenUDP(network, taken)
		wantIs(t, "port in use, "+network, err, syscall.EADDRINUSE)
	}
	_, err := a.ListenUDP("udp", netip.AddrPortFrom(v6(9), 0))
	wantIs(t, "foreign address", err, syscall.EADDRNOTAVAIL)
	for _, tc := range []struct {
		network string
		at      netip.Addr
	}{{"tcp", netip.Addr{}}, {"", netip.Addr{}}, {"udp4", v6(1)}, {"udp6", v4(1)}} {
		if pc, err := a.ListenUDP(tc.network, netip.AddrPortFrom(tc.at, 0)); err == nil || pc != nil {
			t.Errorf("ListenUDP %q %v: %v", tc.network, tc.at, err)
		}
	}
}

func TestUDPErrors(t *testing.T) {
	a, _ := two(t, Config{})
	pc := a.listenUDP("udp", netip.AddrPort{})
	c := a.connectUDP(netip.AddrPortFrom(v6(2), 9))
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(v6(2), 9))

	_, err := c.WriteTo([]byte("x"), to)
	wantIs(t, "WriteTo on a connected socket", err, net.ErrWriteToConnected)
	_, err = pc.Write([]byte("x"))
	wantIs(t, "Write on an unconnected socket", err, syscall.EDESTADDRREQ)
	for _, bad := range []net.Addr{nil, (*net.UDPAddr)(nil), &net.UDPAddr{}, &net.UDPAddr{IP: v6(2).AsSlice()}, &net.UnixAddr{Name: "x"}} {
		if _, err := pc.WriteTo([]byte("x"), bad); err == nil {
			t.Errorf("WriteTo %v succeeded", bad)
		}
	}
	// Another net.Addr will do if it prints as address and port.
	if _, err := pc.WriteTo([]byte("x"), net.TCPAddrFromAddrPort(to.AddrPort())); err != nil {
		t.Errorf("WriteTo to a TCPAddr: %v", err)
	}

	c.Write([]byte("nobody there"))
	_, err = c.Read(make([]byte, 1))
	wantIs(t, "Read from a closed port", err, syscall.ECONNREFUSED)
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err = c.Read(make([]byte, 1))
	wantTimeout(t, "Read", err)

	c.SetWriteDeadline(time.Now().Add(-time.Second))
	_, err = c.Write([]byte("x"))
	wantTimeout(t, "Write", err)
	c.SetDeadline(time.Time{})
	if _, err := c.Write([]byte("x")); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Write after the deadline was cleared: %v", err)
	}

	for _, s := range []*udpConn{c, pc} {
		done := make(chan error)
		go func() {
			var err error
			for err == nil || errors.Is(err, syscall.ECONNREFUSED) {
				_, _, err = s.ReadFrom(make([]byte, 1))
			}
			done <- err
		}()
		stays(t, done)
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		wantIs(t, "waiting ReadFrom", <-done, net.ErrClosed)
		_, err = s.Read(make([]byte, 1))
		wantIs(t, "Read", err, net.ErrClosed)
		_, _, err = s.ReadFrom(nil)
		wantIs(t, "empty ReadFrom", err, net.ErrClosed)
		wantIs(t, "Close", s.Close(), net.ErrClosed)
		wantIs(t, "SetReadDeadline", s.SetReadDeadline(time.Time{}), net.ErrClosed)
	}
	_, err = c.Write([]byte("x"))
	wantIs(t, "Write", err, net.ErrClosed)
	_, err = pc.WriteTo([]byte("x"), to)
	wantIs(t, "WriteTo", err, net.ErrClosed)
	if pc.RemoteAddr() != nil {
		t.Error("an unconnected socket has a remote address")
	}
}

// TestUDPDeadline sets deadlines for a ReadFrom that waits already.
func TestUDPDeadline(t *testing.T) {
	a, _ := two(t, Config{})
	pc := a.listenUDP("udp", netip.AddrPort{})
	errs := make(chan error, 1)
	read := func() {
		go func() {
			_, _, err := pc.ReadFrom(make([]byte, 10))
			errs <- err
		}()
	}
	read()
	stays(t, errs)
	pc.SetDeadline(time.Now().Add(5 * time.Millisecond))
	wantTimeout(t, "set while waiting", <-errs)
	pc.SetReadDeadline(time.Now().Add(time.Hour))
	read()
	stays(t, errs)
	pc.SetReadDeadline(time.Unix(1, 0))
	wantTimeout(t, "set to the past", <-errs)
	pc.SetReadDeadline(time.Time{})
	read()
	stays(t, errs)
	if _, err := pc.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(v6(1), pc.port()))); err == nil {
		t.Error("Write after the deadline of both directions succeeded")
	} else if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	pc.SetWriteDeadline(time.Time{})
	if _, err := pc.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(v6(1), pc.port()))); err != nil {
		t.Error(err)
	}
	if err := <-errs; err != nil {
		t.Error(err)
	}
}

// TestUDPConnectedTakesPeerOnly: a connected socket hears its peer alone.
func TestUDPConnectedTakesPeerOnly(t *testing.T) {
	a, b := two(t, Config{})
	peer, other := b.listenUDP("udp", netip.AddrPort{}), b.listenUDP("udp", netip.AddrPort{})
	c := a.connectUDP(netip.AddrPortFrom(v6(2), peer.port()))
	if _, err := other.WriteTo([]byte("intruder"), c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.WriteTo([]byte("peer"), c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	if n, err := c.Read(p); err != nil || string(p[:n]) != "peer" {
		t.Errorf("read %q, %v", p[:n], err)
	}
}

// TestSocketOverflow: datagrams that an application leaves unread are lost and noted, which is
// no drop of the stack's; what was kept is intact and in order.
func TestSocketOverflow(t *testing.T) {
	a, b := two(t, Config{})
	pc := b.listenUDP("udp", netip.AddrPort{})
	c := a.connectUDP(netip.AddrPortFrom(v6(2), pc.port()))
	const sent, size = 300, 1000
	for i := range sent {
		p := make([]byte, size)
		p[0], p[1] = byte(i), byte(i>>8)
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	a.flush()
	lost := b.snapshot().Notes["socket overflow"]
	if want := uint64(sent - (datagramBuffer+size-1)/size); lost != want {
		t.Errorf("%d lost, want %d", lost, want)
	}
	p := make([]byte, size)
	for i := range sent - int(lost) {
		if n, err := pc.Read(p); err != nil || n != size || int(p[0])+int(p[1])<<8 != i {
			t.Fatalf("datagram %d: %d bytes, number %d, %v", i, n, int(p[0])+int(p[1])<<8, err)
		}
	}
	// Within the stack too.
	self := a.listenUDP("udp", netip.AddrPort{})
	d := a.connectUDP(netip.AddrPortFrom(v6(1), self.port()))
	for range sent {
		d.Write(p)
	}
	if got := a.snapshot().Notes["socket overflow"]; got != lost {
		t.Errorf("%d lost within the stack, want %d", got, lost)
	}
	a.n.noDrops()
}

// flush returns when every packet sent so far has been delivered.
func (nd *node) flush() {
	for nd.out.Len() > 0 {
		time.Sleep(time.Millisecond)
	}
	to := v6(3 - nd.id)
	if _, err := nd.Ping(nd.context(), to, nil); err != nil {
		nd.n.t.Fatal(err)
	}
}

// TestUDPWithTCP: large datagrams arrive intact beside a bulk connection, whatever the MTU.
func TestUDPWithTCP(t *testing.T) {
	for _, mtu := range []int{1280, 16000} {
		a, b := two(t, Config{MTU: mtu})
		c, d := connected(a, b)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { bulk(c, d, stop); d.Close() })
		pc := b.listenUDP("udp", netip.AddrPort{})
		for _, size := range []int{4000, 32000} {
			u := a.connectUDP(netip.AddrPortFrom(v4(2), pc.port()))
			data := bytes.Repeat([]byte{byte(size >> 3)}, size)
			for range scaled(80) {
				if _, err := u.Write(data); err != nil {
					t.Fatal(err)
				}
				p := make([]byte, 65535)
				pc.SetReadDeadline(time.Now().Add(20 * time.Second))
				if n, err := pc.Read(p); err != nil || !bytes.Equal(p[:n], data) {
					t.Fatalf("MTU %d, %d bytes: read %d, %v", mtu, size, n, err)
				}
			}
		}
		close(stop)
		wg.Wait()
		a.n.noDrops()
	}
}
