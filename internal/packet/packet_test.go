package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/veil-net/anchor/internal/tuntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	a4 = netip.MustParseAddr("10.1.2.3")
	b4 = netip.MustParseAddr("10.4.5.6")
	a6 = netip.MustParseAddr("fd12:3456:789a::a")
	b6 = netip.MustParseAddr("fd12:3456:789a::b")
)

func port(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }

// fragment6 prefixes b with a fragment header.
func fragment6(next byte, offset uint16, more bool, id uint32, b []byte) []byte {
	f := make([]byte, 8, 8+len(b))
	f[0] = next
	v := offset
	if more {
		v |= 1
	}
	binary.BigEndian.PutUint16(f[2:], v)
	binary.BigEndian.PutUint32(f[4:], id)
	return append(f, b...)
}

// extension prefixes b with an extension header of 8 x (1 + extra) bytes.
func extension(next byte, extra int, b []byte) []byte {
	e := make([]byte, 8*(1+extra), 8*(1+extra)+len(b))
	e[0], e[1] = next, byte(extra)
	return append(e, b...)
}

func TestParse(t *testing.T) {
	udp := tuntest.UDPPacket(port(a6, 1000), port(b6, 53), []byte("hello"))[40:]
	// Hop-by-hop options of 24 bytes, then destination options, routing, and mobility of 16.
	chain := tuntest.Packet6(a6, b6, hopByHop,
		extension(destOptions, 2, extension(routing, 0, extension(mobility, 0, extension(17, 1, udp)))))
	tests := []struct {
		name string
		p    []byte
		want Header
	}{
		{"udp4", tuntest.UDPPacket(port(a4, 1000), port(b4, 53), []byte("hello")),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: UDP, Upper: 20, SrcPort: 1000, DstPort: 53}},
		{"udp6 empty", tuntest.UDPPacket(port(a6, 1000), port(b6, 53), nil),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: UDP, Upper: 40, SrcPort: 1000, DstPort: 53}},
		{"tcp4", tuntest.TCPPacket(port(a4, 80), port(b4, 65535), tuntest.SYN|tuntest.ACK, nil),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: TCP, TCPFlags: 0x12, Upper: 20, SrcPort: 80, DstPort: 65535}},
		{"tcp6", tuntest.TCPPacket(port(a6, 80), port(b6, 2), tuntest.RST, []byte("x")),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: TCP, TCPFlags: 0x04, Upper: 40, SrcPort: 80, DstPort: 2}},
		{"echo4", tuntest.ICMPPacket(a4, b4, 8, 0, make([]byte, 60)),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: ICMP, ICMPType: 8, Upper: 20}},
		{"echo6", tuntest.ICMPPacket(a6, b6, 128, 0, make([]byte, 60)),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: ICMPv6, ICMPType: 128, Upper: 40}},
		{"options4", tuntest.Packet4(a4, b4, UDP.number(), 0, 0, bytes.Repeat([]byte{1}, 40), udp),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: UDP, Upper: 60, SrcPort: 1000, DstPort: 53}},
		{"protocol without ports", tuntest.Packet(a4, b4, 47, []byte{1}),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: 47, Upper: 20}},
		{"ICMP in IPv6 is just a protocol", tuntest.Packet(a6, b6, 1, []byte{3}),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: 1, Upper: 40}},
		{"ICMPv6 in IPv4 is just a protocol", tuntest.Packet(a4, b4, 58, []byte{1}),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: 58, Upper: 20}},
		{"nothing follows", tuntest.Packet(a6, b6, 59, nil),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: 59, Upper: 40}},
		{"don't fragment", tuntest.Packet4(a4, b4, 47, 7, 0x4000, nil, nil),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: 47, Upper: 20}},
		{"first fragment4", tuntest.Packet4(a4, b4, UDP.number(), 7, 0x2000, nil, udp[:8]),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: UDP, Upper: 20, SrcPort: 1000, DstPort: 53, MoreFragments: true, ID: 7}},
		{"last fragment4", tuntest.Packet4(a4, b4, UDP.number(), 7, 185, nil, []byte("xyz")),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: UDP, Upper: 20, FragmentOffset: 1480, ID: 7}},
		{"first fragment4 of TCP, cut within its header", tuntest.Packet4(a4, b4, TCP.number(), 7, 0x2000, nil, []byte{0, 80, 0, 81, 0, 0, 0, 0}),
			Header{Src: a4, Dst: b4, Version: 4, Protocol: TCP, Upper: 20, SrcPort: 80, DstPort: 81, MoreFragments: true, ID: 7}},
		{"first fragment6", tuntest.Packet6(a6, b6, fragment, fragment6(17, 0, true, 1<<31, udp[:8])),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: UDP, Upper: 48, SrcPort: 1000, DstPort: 53, MoreFragments: true, ID: 1 << 31}},
		{"later fragment6", tuntest.Packet6(a6, b6, fragment, fragment6(17, 1448, false, 9, []byte("abc"))),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: UDP, Upper: 48, FragmentOffset: 1448, ID: 9}},
		{"later fragment6 that looks like an extension", tuntest.Packet6(a6, b6, fragment, fragment6(destOptions, 8, false, 9, []byte("abc"))),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: destOptions, Upper: 48, FragmentOffset: 8, ID: 9}},
		{"atomic fragment6", tuntest.Packet6(a6, b6, fragment, fragment6(17, 0, false, 9, udp)),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: UDP, Upper: 48, SrcPort: 1000, DstPort: 53}},
		{"extensions", chain,
			Header{Src: a6, Dst: b6, Version: 6, Protocol: UDP, Upper: 40 + 24 + 8 + 8 + 16, SrcPort: 1000, DstPort: 53}},
		{"authentication header of 6 words", tuntest.Packet6(a6, b6, authHeader, append(append([]byte{17, 4}, make([]byte, 22)...), udp...)),
			Header{Src: a6, Dst: b6, Version: 6, Protocol: UDP, Upper: 64, SrcPort: 1000, DstPort: 53}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h Header
			if err := h.Parse(tt.p); err != nil {
				t.Fatal(err)
			}
			if h != tt.want {
				t.Errorf("\ngot  %+v\nwant %+v", h, tt.want)
			}
		})
	}
}

func (p Protocol) number() byte { return byte(p) }

func TestParseRefuses(t *testing.T) {
	udp4 := tuntest.UDPPacket(port(a4, 1000), port(b4, 53), []byte("hello"))
	udp6 := tuntest.UDPPacket(port(a6, 1000), port(b6, 53), []byte("hello"))
	edit := func(p []byte, fix bool, at int, v byte) []byte {
		p = bytes.Clone(p)
		p[at] = v
		if fix {
			tuntest.SetChecksum4(p)
		}
		return p
	}
	chain := func(n int) []byte { // n extension headers before UDP
		b := extension(17, 0, udp6[40:])
		for range n - 1 {
			b = extension(destOptions, 0, b)
		}
		return tuntest.Packet6(a6, b6, destOptions, b)
	}
	if err := new(Header).Parse(chain(maxExtensions)); err != nil {
		t.Errorf("%d extensions: %v", maxExtensions, err)
	}
	tests := []struct {
		name string
		p    []byte
		want error
	}{
		{"nothing", nil, ErrShort},
		{"version 0", edit(udp4, false, 0, 0x05), ErrVersion},
		{"version 5", edit(udp4, false, 0, 0x55), ErrVersion},
		{"version 15", edit(udp4, false, 0, 0xf5), ErrVersion},
		{"IHL 0", edit(udp4, false, 0, 0x40), ErrHeader},
		{"IHL 4", edit(udp4, false, 0, 0x44), ErrHeader},
		{"IHL beyond the packet", edit(udp4, false, 0, 0x4f), ErrHeader},
		{"total length above", edit(udp4, true, 3, byte(len(udp4)+1)), ErrLength},
		{"total length below", edit(udp4, true, 3, byte(len(udp4)-1)), ErrLength},
		{"total length 0", edit(udp4, true, 3, 0), ErrLength},
		{"trailing byte", append(bytes.Clone(udp4), 0), ErrLength},
		{"bad checksum", edit(udp4, false, 8, 9), ErrChecksum},
		{"payload length above", edit(udp6, false, 5, byte(len(udp6)-39)), ErrLength},
		{"payload length below", edit(udp6, false, 5, byte(len(udp6)-41)), ErrLength},
		{"jumbogram", edit(udp6, false, 5, 0), ErrLength},
		{"22 bytes of TCP", tuntest.Packet(a4, b4, TCP.number(), []byte{0, 1}), ErrTransport},
		{"19 bytes of TCP", tuntest.Packet(a6, b6, TCP.number(), make([]byte, 19)), ErrTransport},
		{"7 bytes of UDP", tuntest.Packet(a4, b4, UDP.number(), make([]byte, 7)), ErrTransport},
		{"7 bytes of ICMP", tuntest.Packet(a4, b4, ICMP.number(), make([]byte, 7)), ErrTransport},
		{"3 bytes of ICMPv6", tuntest.Packet(a6, b6, ICMPv6.number(), make([]byte, 3)), ErrTransport},
		{"fragment beyond 65,535", tuntest.Packet4(a4, b4, 17, 1, 0x1fff, nil, make([]byte, 8)), ErrFragment},
		{"middle fragment of 12 bytes", tuntest.Packet4(a4, b4, 17, 1, 0x2001, nil, make([]byte, 12)), ErrFragment},
		{"fragment6 beyond 65,535", tuntest.Packet6(a6, b6, fragment, fragment6(17, 0xfff8, false, 1, make([]byte, 8))), ErrFragment},
		{"middle fragment6 of 12 bytes", tuntest.Packet6(a6, b6, fragment, fragment6(17, 8, true, 1, make([]byte, 12))), ErrFragment},
		{"fragment of a fragment", tuntest.Packet6(a6, b6, fragment, fragment6(fragment, 0, true, 1, fragment6(17, 0, true, 2, make([]byte, 8)))), ErrFragment},
		{"extension cut short", tuntest.Packet6(a6, b6, destOptions, make([]byte, 7)), ErrExtension},
		{"extension longer than the packet", tuntest.Packet6(a6, b6, destOptions, extension(17, 1, nil)[:15]), ErrExtension},
		{"hop-by-hop in second place", tuntest.Packet6(a6, b6, destOptions, extension(hopByHop, 0, extension(17, 0, udp6[40:]))), ErrExtension},
		{"9 extensions", chain(9), ErrExtension},
		{"8,000 extensions", chain(8000), ErrExtension},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h Header
			if err := h.Parse(tt.p); !errors.Is(err, tt.want) {
				t.Errorf("Parse = %v, want %v", err, tt.want)
			}
		})
	}
}

// A packet cut at any place is refused, whether or not its length fields are mended to fit.
func TestEveryTruncation(t *testing.T) {
	packets := map[string][]byte{
		"tcp4":        tuntest.TCPPacket(port(a4, 1), port(b4, 2), tuntest.ACK, make([]byte, 40)),
		"tcp4options": tuntest.Packet4(a4, b4, TCP.number(), 0, 0, make([]byte, 40), make([]byte, 20)),
		"udp4":        tuntest.UDPPacket(port(a4, 1), port(b4, 2), make([]byte, 52)),
		"icmp4":       tuntest.ICMPPacket(a4, b4, 8, 0, make([]byte, 40)),
		"tcp6":        tuntest.TCPPacket(port(a6, 1), port(b6, 2), tuntest.ACK, make([]byte, 40)),
		"udp6":        tuntest.UDPPacket(port(a6, 1), port(b6, 2), make([]byte, 52)),
		"icmp6":       tuntest.ICMPPacket(a6, b6, 128, 0, make([]byte, 40)),
		"extended6":   tuntest.Packet6(a6, b6, hopByHop, extension(fragment, 0, fragment6(17, 0, false, 1, make([]byte, 8)))),
	}
	upper := map[string]int{"tcp4": 40, "tcp4options": 80, "udp4": 28, "icmp4": 28, "tcp6": 60, "udp6": 48, "icmp6": 44, "extended6": 64}
	for name, whole := range packets {
		for n := range min(61, len(whole)) {
			var h Header
			p := whole[:n:n]
			if err := h.Parse(p); err == nil {
				t.Errorf("%s cut to %d bytes is accepted", name, n)
			}
			p = bytes.Clone(p)
			switch {
			case n >= 20 && whole[0]>>4 == 4:
				p[3] = byte(n)
				if int(p[0]&15)*4 <= n {
					tuntest.SetChecksum4(p)
				}
			case n >= 40:
				p[5] = byte(n - 40)
			}
			if err := h.Parse(p); (err == nil) != (n >= upper[name]) {
				t.Errorf("%s cut to %d bytes, lengths mended: %v", name, n, err)
			}
		}
	}
}

func TestLargestPackets(t *testing.T) {
	for _, p := range [][]byte{
		tuntest.UDPPacket(port(a4, 1), port(b4, 2), make([]byte, 65507)),
		tuntest.UDPPacket(port(a6, 1), port(b6, 2), make([]byte, 65527)),
		tuntest.Packet4(a4, b4, 17, 1, 65512/8, nil, make([]byte, 3)),
		tuntest.Packet6(a6, b6, fragment, fragment6(17, 65528, false, 1, make([]byte, 7))),
	} {
		var h Header
		if err := h.Parse(p); err != nil {
			t.Errorf("%d bytes: %v", len(p), err)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	p4 := tuntest.TCPPacket(port(a4, 1), port(b4, 2), tuntest.ACK, make([]byte, 1000))
	p6 := tuntest.Packet6(a6, b6, hopByHop, extension(17, 0, make([]byte, 8)))
	bad := p6[:50]
	dst := make([]byte, 0, MaxError)
	var sink uint64
	if n := testing.AllocsPerRun(200, func() {
		for _, p := range [][]byte{p4, p6, bad} {
			var h Header
			if h.Parse(p) == nil {
				sink += h.Flow()
				sink += uint64(len(AppendError(dst, p, &h, Unreachable, 0)))
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	for name, p := range map[string][]byte{
		"4": tuntest.TCPPacket(port(a4, 1), port(b4, 2), tuntest.ACK, make([]byte, 1380)),
		"6": tuntest.TCPPacket(port(a6, 1), port(b6, 2), tuntest.ACK, make([]byte, 1360)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var h Header
			for b.Loop() {
				if err := h.Parse(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
