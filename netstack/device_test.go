//go:build !js

package netstack

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/veil-net/anchor/internal/buffer"
	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// alone starts a stack whose device the test itself reads and writes.
func alone(t testing.TB, cfg Config) *node {
	n := newNetwork(t)
	return n.add(1, cfg)
}

// write gives the stack packets, at an offset as ingress does.
func (nd *node) write(packets ...[]byte) int {
	nd.n.t.Helper()
	const offset = 16
	var bufs [][]byte
	for _, p := range packets {
		bufs = append(bufs, append(make([]byte, offset), p...))
	}
	n, err := nd.Write(bufs, offset)
	if err != nil {
		nd.n.t.Fatal(err)
	}
	return n
}

// sent returns the packets that wait in the device.
func (nd *node) sent() [][]byte {
	var out [][]byte
	var one [1]*buffer.Buf
	for nd.out.TryPop(one[:]) > 0 {
		out = append(out, bytes.Clone(one[0].Bytes()))
		one[0].Release()
	}
	return out
}

func TestDeviceBasics(t *testing.T) {
	s := alone(t, Config{MTU: 4000})
	var dev tun.Device = s.Stack
	if mtu, err := dev.MTU(); mtu != 4000 || err != nil {
		t.Errorf("MTU %d, %v", mtu, err)
	}
	if name, err := dev.Name(); name == "" || err != nil {
		t.Errorf("Name %q, %v", name, err)
	}
	if dev.File() != nil || dev.BatchSize() < 1 {
		t.Error("File or BatchSize")
	}
	if e := <-dev.Events(); e != tun.EventUp {
		t.Errorf("first event %v", e)
	}
	done := make(chan error)
	go func() {
		_, err := dev.Read([][]byte{make([]byte, 5000)}, make([]int, 1), 0)
		done <- err
	}()
	go func() {
		_, err := s.ReadBufs(make([]*buffer.Buf, 1))
		done <- err
	}()
	stays(t, done)
	if err := dev.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for range 2 {
		if err := <-done; !errors.Is(err, os.ErrClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("waiting read: %v", err)
		}
	}
	if _, err := dev.Write([][]byte{{0x45}}, 0); !errors.Is(err, os.ErrClosed) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if e, ok := <-dev.Events(); ok {
		t.Errorf("event %v after Close", e)
	}
	if err := dev.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestQuiet: a stack says nothing of its own accord: no neighbour discovery, no multicast.
func TestQuiet(t *testing.T) {
	s := alone(t, Config{})
	time.Sleep(50 * time.Millisecond)
	if p := s.sent(); len(p) != 0 {
		t.Errorf("sent %d packets: %x", len(p), p)
	}
}

// TestRead reads several packets at once, at an offset, and drops the one that does not fit.
func TestRead(t *testing.T) {
	s := alone(t, Config{})
	before := time.Now()
	c := s.connectUDP(netip.AddrPortFrom(v4(2), 7))
	for _, size := range []int{10, 2000, 20} {
		if _, err := c.Write(bytes.Repeat([]byte{byte(size)}, size)); err != nil {
			t.Fatal(err)
		}
	}
	const offset = 24
	bufs, sizes := [][]byte{make([]byte, 500), make([]byte, 500), make([]byte, 500), make([]byte, 500)}, make([]int, 4)
	n, err := s.Read(bufs, sizes, offset)
	if n != 2 || err != nil || sizes[0] != 38 || sizes[1] != 48 {
		t.Fatalf("Read: %d packets of %v, %v", n, sizes, err)
	}
	for i, want := range []byte{10, 20} {
		if p := bufs[i][offset : offset+sizes[i]]; p[len(p)-1] != want {
			t.Errorf("packet %d ends in %d, want %d", i, p[len(p)-1], want)
		}
	}
	snap := s.snapshot()
	if snap.Drops["short buffer"] != 1 || snap.Out != 3 {
		t.Errorf("drops %v, out %d", snap.Drops, snap.Out)
	}
	c.Write([]byte("x"))
	got := make([]*buffer.Buf, 4)
	m, err := s.ReadBufs(got)
	if m != 1 || err != nil {
		t.Fatalf("ReadBufs: %d, %v", m, err)
	}
	b := got[0]
	if b.Born.Before(before) || b.Born.After(time.Now()) || b.Front() < buffer.Headroom || b.Len() != 29 {
		t.Errorf("born %v, head-room %d, length %d", b.Born, b.Front(), b.Len())
	}
	b.Release()
}

// TestMalformed gives the stack packets that are wrong in every way we could think of: none
// panics, each is counted, and what is right beside them in the same Write arrives.
func TestMalformed(t *testing.T) {
	s := alone(t, Config{})
	pc := s.listenUDP("udp", netip.AddrPort{})
	at4, at6 := netip.AddrPortFrom(v4(1), pc.port()), netip.AddrPortFrom(v6(1), pc.port())
	from4, from6 := netip.AddrPortFrom(v4(2), 9), netip.AddrPortFrom(v6(2), 9)
	good := rawUDP(from6, at6, []byte("good"))
	set := func(p []byte, at int, v ...byte) []byte {
		p = bytes.Clone(p)
		copy(p[at:], v)
		return p
	}
	udp4, udp6 := rawUDP(from4, at4, []byte("data")), rawUDP(from6, at6, []byte("data"))
	tcp6 := rawTCP(tcpSegment{src: from6, dst: netip.AddrPortFrom(v6(1), 1), flags: header.TCPFlagSyn})
	tcp4 := rawTCP(tcpSegment{src: from4, dst: netip.AddrPortFrom(v4(1), 1), flags: header.TCPFlagSyn})
	ping6 := rawICMP(v6(2), v6(1), icmpv6Echo, 0, nil)

	for name, p := range map[string][]byte{
		"empty":                      {},
		"version 0":                  set(udp4, 0, 0x05),
		"version 5":                  set(udp4, 0, 0x55),
		"version 15":                 set(udp6, 0, 0xf0),
		"IPv4 IHL 0":                 set(udp4, 0, 0x40),
		"IPv4 IHL 4":                 set(udp4, 0, 0x44),
		"IPv4 IHL beyond the packet": set(udp4, 0, 0x4f),
		"IPv4 total length 0":        set(udp4, 2, 0, 0),
		"IPv4 total length 19":       set(udp4, 2, 0, 19),
		"IPv4 longer than buffer":    set(udp4, 2, 0, byte(len(udp4)+1)),
		"IPv4 cut":                   udp4[:len(udp4)-1],
		"IPv4 header checksum":       set(udp4, 10, 0xde, 0xad),
		"IPv6 longer than buffer":    set(udp6, 4, 0, byte(len(udp6)-ipv6Header+1)),
		"IPv6 cut":                   udp6[:len(udp6)-1],
		"UDP length 0 of IPv4":       set(udp4, 24, 0, 0),
		"UDP length 7":               set(udp6, 44, 0, 7),
		"UDP length beyond":          set(udp6, 44, 0, 200),
		"UDP checksum":               set(udp6, 46, 0xde, 0xad),
		"UDP cut by IP":              rawIP(protoUDP, v6(2), v6(1), []byte{0, 9, 0, 9, 0}),
		"TCP checksum":               set(tcp6, ipv6Header+16, 0xde, 0xad),
		"TCP checksum, IPv4":         set(tcp4, ipv4Header+16, 0xde, 0xad),
		"TCP data offset 0":          set(tcp6, ipv6Header+12, 0),
		"TCP data offset 60":         set(tcp6, ipv6Header+12, 0xf0),
		"TCP of 2 bytes":             rawIP(protoTCP, v4(2), v4(1), []byte{0, 9}),
		"TCP of 19 bytes":            rawIP(protoTCP, v6(2), v6(1), tcp6[ipv6Header:len(tcp6)-1]),
		"ICMPv6 checksum":            set(ping6, ipv6Header+2, 0xde, 0xad),
		"ICMPv6 of 3 bytes":          rawIP(protoICMPv6, v6(2), v6(1), []byte{128, 0, 0}),
		"ICMP of 3 bytes":            rawIP(protoICMP, v4(2), v4(1), []byte{8, 0, 0}),
		"fragment header cut":        rawIP(protoFrag, v6(2), v6(1), []byte{17, 0, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			was := s.snapshot().Drops["malformed"]
			s.write(good, p, good)
			if got := s.snapshot().Drops["malformed"]; got != was+1 {
				t.Errorf("malformed counted %d, want 1", got-was)
			}
			for range 2 {
				b := make([]byte, 10)
				if n, err := pc.Read(b); err != nil || string(b[:n]) != "good" {
					t.Fatalf("good packet beside it: %q, %v", b[:n], err)
				}
			}
			if p := s.sent(); len(p) > 1 {
				t.Errorf("answered with %d packets", len(p))
			}
		})
	}
	t.Run("zero-length UDP over IPv6 payload", func(t *testing.T) {
		s.write(rawIP(protoUDP, v6(2), v6(1), nil))
	})
	t.Run("padded", func(t *testing.T) { // bytes behind the stated length are no part of it
		s.write(append(bytes.Clone(udp4), 1, 2, 3), append(bytes.Clone(udp6), 1, 2, 3))
		for range 2 {
			b := make([]byte, 10)
			if n, err := pc.Read(b); err != nil || string(b[:n]) != "data" {
				t.Errorf("padded packet: %q, %v", b[:n], err)
			}
		}
	})
	t.Run("offset beyond the buffer", func(t *testing.T) {
		was := s.snapshot().Drops["malformed"]
		if n, err := s.Write([][]byte{make([]byte, 3)}, 10); n != 0 || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
		if got := s.snapshot().Drops["malformed"]; got != was+1 {
			t.Errorf("malformed counted %d, want 1", got-was)
		}
	})
}

// TestTruncated cuts good packets at every length, and gives every first byte.
func TestTruncated(t *testing.T) {
	s := alone(t, Config{})
	at4, at6 := netip.AddrPortFrom(v4(1), 99), netip.AddrPortFrom(v6(1), 99)
	from4, from6 := netip.AddrPortFrom(v4(2), 9), netip.AddrPortFrom(v6(2), 9)
	inner4, inner6 := rawUDP(at4, from4, []byte("data")), rawUDP(at6, from6, []byte("data"))
	for _, p := range [][]byte{
		rawUDP(from4, at4, []byte("data")), rawUDP(from6, at6, []byte("data")),
		rawTCP(tcpSegment{src: from4, dst: at4, flags: header.TCPFlagSyn}), rawTCP(tcpSegment{src: from6, dst: at6, flags: header.TCPFlagAck}),
		rawICMP(v4(2), v4(1), icmpEcho, 0, []byte("data")), rawICMP(v6(2), v6(1), icmpv6Echo, 0, []byte("data")),
		rawICMP(v4(2), v4(1), icmpUnreachable, 1, inner4), rawICMP(v6(2), v6(1), icmpv6Unreachable, 3, inner6),
		rawFragment(rawUDP(from4, at4, make([]byte, 100)), 1, 0, 64), rawFragment(rawUDP(from6, at6, make([]byte, 100)), 2, 64, 0),
	} {
		for n := range len(p) {
			s.write(p[:n])
			q := bytes.Clone(p[:n])
			if n >= 6 { // with a length that fits
				if q[0]>>4 == 4 {
					q[2], q[3] = byte(n>>8), byte(n)
				} else if n >= ipv6Header {
					q[4], q[5] = byte((n-ipv6Header)>>8), byte(n-ipv6Header)
				}
			}
			s.write(q)
		}
		for b := range 256 {
			q := bytes.Clone(p)
			q[0] = byte(b)
			s.write(q)
		}
	}
	s.sent()
}

// TestForeignAddress: packets for and from addresses that cannot be are counted.
func TestForeignAddress(t *testing.T) {
	s := alone(t, Config{})
	for i, p := range [][]byte{
		rawUDP(netip.AddrPortFrom(v6(2), 9), netip.AddrPortFrom(v6(3), 9), nil),
		rawUDP(netip.AddrPortFrom(v4(2), 9), netip.AddrPortFrom(v4(3), 9), nil),
	} {
		s.write(p)
		if got := s.snapshot().Drops["foreign address"]; got != uint64(i+1) {
			t.Errorf("foreign address counted %d, want %d", got, i+1)
		}
	}
	if p := s.sent(); len(p) != 0 {
		t.Errorf("answered %d", len(p))
	}
}

// TestFragments: fragments are put together in any order; where they overlap, the datagram is
// dropped, not forged; a last fragment of 3 bytes is one too.
func TestFragments(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	s := alone(t, Config{})
	pc := s.listenUDP("udp", netip.AddrPort{})
	p := make([]byte, 65535)
	for i, src := range []netip.Addr{v4(2), v6(2)} {
		dst := v4(1)
		if src.Is6() {
			dst = v6(1)
		}
		data := make([]byte, 32003-8) // the last fragment has 3 bytes
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		whole := rawUDP(netip.AddrPortFrom(src, 9), netip.AddrPortFrom(dst, pc.port()), data)
		for round := range 20 {
			var frags [][]byte
			for off := 0; off < 32003; off += 1000 {
				frags = append(frags, rawFragment(whole, uint32(i*100+round+1), off, min(off+1000, 32003)))
			}
			rng.Shuffle(len(frags), func(i, j int) { frags[i], frags[j] = frags[j], frags[i] })
			s.write(frags...)
			pc.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := pc.Read(p); err != nil || !bytes.Equal(p[:n], data) {
				t.Fatalf("%v, round %d: read %d bytes, %v", src, round, n, err)
			}
		}
		// Overlap: bytes 504 to 999 twice, with other contents the second time.
		evil := bytes.Clone(whole)
		for i := range evil[len(evil)-31900:] {
			evil[len(evil)-31900+i] ^= 0xff
		}
		s.write(rawFragment(whole, 9000, 0, 1000), rawFragment(evil, 9000, 504, 1504), rawFragment(whole, 9000, 1504, 0))
		pc.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
		if n, err := pc.Read(p); err == nil {
			t.Errorf("%v: a datagram of %d bytes from overlapping fragments", src, n)
		}
	}
}

// TestUnreachable: ICMP errors reach the socket they are about, as "no route to host".
func TestUnreachable(t *testing.T) {
	s := alone(t, Config{})
	for _, tc := range []struct {
		to         netip.Addr
		kind, code byte
		want       error
	}{
		{v4(2), icmpUnreachable, 0, syscall.EHOSTUNREACH},  // net
		{v4(2), icmpUnreachable, 1, syscall.EHOSTUNREACH},  // host
		{v4(2), icmpUnreachable, 3, syscall.ECONNREFUSED},  // port
		{v4(2), icmpUnreachable, 13, syscall.EHOSTUNREACH}, // administratively prohibited
		{v6(2), icmpv6Unreachable, 0, syscall.EHOSTUNREACH},
		{v6(2), icmpv6Unreachable, 1, syscall.EHOSTUNREACH},
		{v6(2), icmpv6Unreachable, 3, syscall.EHOSTUNREACH}, // address
		{v6(2), icmpv6Unreachable, 4, syscall.ECONNREFUSED}, // port
	} {
		own := v4(1)
		if tc.to.Is6() {
			own = v6(1)
		}
		remote := netip.AddrPortFrom(tc.to, 80)
		answer := func() {
			var one [1]*buffer.Buf
			n, err := s.ReadBufs(one[:])
			if n != 1 || err != nil {
				t.Errorf("ReadBufs: %d, %v", n, err)
				return
			}
			// As much of the packet as a router quotes at least.
			b := one[0].Bytes()
			quoted := b[:min(len(b), len(b)-0)]
			s.write(rawICMP(tc.to, own, tc.kind, tc.code, quoted))
			one[0].Release()
		}
		// A dial.
		go answer()
		_, err := s.DialTCP(s.context(), netip.AddrPort{}, remote)
		wantIs(t, "DialTCP", err, tc.want)
		// A connected UDP socket: a Read that waits, and a Write.
		c := s.connectUDP(remote)
		errs := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			errs <- err
		}()
		stays(t, errs)
		c.Write([]byte("x"))
		answer()
		wantIs(t, "waiting Read", <-errs, tc.want)
		c.Write([]byte("x"))
		answer()
		_, err = c.Write([]byte("x"))
		wantIs(t, "Write", err, tc.want)
		if _, err = c.Write([]byte("x")); err != nil {
			t.Errorf("the error stayed: %v", err)
		}
		s.sent()
		c.Close()
		// A ping, which has no port.
		if tc.want == syscall.EHOSTUNREACH {
			go answer()
			if _, err := s.Ping(s.context(), tc.to, nil); !errors.Is(err, tc.want) {
				t.Errorf("Ping: %v", err)
			}
		}
		// One that is about somebody else's packet changes nothing.
		s.write(rawICMP(tc.to, own, tc.kind, tc.code, rawUDP(netip.AddrPortFrom(own, 7), remote, nil)))
	}
	if n := len(s.sinks); n != 0 {
		t.Errorf("%d watches are left", n)
	}
}

// TestUnreachableEstablished: an ICMP error is no reason to end a connection (RFC 1122
// section 4.2.3.9).
func TestUnreachableEstablished(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	defer c.Close()
	defer d.Close()
	quoted := rawTCP(tcpSegment{src: c.LocalAddr().(*net.TCPAddr).AddrPort(), dst: c.RemoteAddr().(*net.TCPAddr).AddrPort(), flags: header.TCPFlagAck})
	a.write(rawICMP(v6(2), v6(1), icmpv6Unreachable, 3, quoted))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("Write: %v", err)
	}
	if _, err := d.Read(make([]byte, 1)); err != nil {
		t.Errorf("Read: %v", err)
	}
}

// FuzzWrite gives the stack anything. Its seeds are in testdata.
func FuzzWrite(f *testing.F) {
	s := alone(f, Config{})
	f.Fuzz(func(t *testing.T, p []byte) {
		was := bytes.Clone(p)
		s.Write([][]byte{p}, 0)
		if !bytes.Equal(p, was) {
			t.Error("Write changed the packet")
		}
		s.sent()
	})
}
