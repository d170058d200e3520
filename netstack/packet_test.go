//go:build !js

package netstack

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestKindOf(t *testing.T) {
	for _, fam := range []struct{ src, dst netip.Addr }{{v4(1), v4(2)}, {v6(1), v6(2)}} {
		src, dst := netip.AddrPortFrom(fam.src, 1), netip.AddrPortFrom(fam.dst, 2)
		seg := func(f header.TCPFlags) []byte { return rawTCP(tcpSegment{src: src, dst: dst, flags: f}) }
		echo, reply, unreach, exceeded := byte(icmpEcho), byte(0), byte(icmpUnreachable), byte(11)
		if fam.src.Is6() {
			echo, reply, unreach, exceeded = icmpv6Echo, 129, icmpv6Unreachable, 3
		}
		long := rawICMP(fam.src, fam.dst, echo, 0, make([]byte, 100))
		for name, tc := range map[string]struct {
			p    []byte
			want kind
		}{
			"SYN":             {seg(header.TCPFlagSyn), kindBounded},
			"ACK":             {seg(header.TCPFlagAck), kindBounded},
			"FIN":             {seg(header.TCPFlagFin | header.TCPFlagAck), kindBounded},
			"SYN-ACK":         {seg(header.TCPFlagSyn | header.TCPFlagAck), kindSynAck},
			"RST":             {seg(header.TCPFlagRst), kindReset},
			"RST ACK":         {seg(header.TCPFlagRst | header.TCPFlagAck), kindReset},
			"UDP":             {rawUDP(src, dst, nil), kindBounded},
			"echo":            {long, kindBounded},
			"echo reply":      {rawICMP(fam.src, fam.dst, reply, 0, nil), kindICMP},
			"unreachable":     {rawICMP(fam.src, fam.dst, unreach, 0, nil), kindICMP},
			"time exceeded":   {rawICMP(fam.src, fam.dst, exceeded, 0, nil), kindICMP},
			"first fragment":  {rawFragment(long, 1, 0, 64), kindBounded},
			"later fragment":  {rawFragment(long, 1, 64, 0), kindICMP},
			"later, of TCP":   {rawFragment(rawTCP(tcpSegment{src: src, dst: dst, flags: header.TCPFlagRst, data: make([]byte, 99)}), 1, 64, 0), kindBounded},
			"unknown":         {rawIP(99, fam.src, fam.dst, []byte("x")), kindBounded},
			"cut TCP":         {rawIP(protoTCP, fam.src, fam.dst, make([]byte, 13)), kindBounded},
			"empty ICMP":      {rawIP(protoICMP, fam.src, fam.dst, nil), kindICMP},
			"empty ICMPv6":    {rawIP(protoICMPv6, fam.src, fam.dst, nil), kindICMP},
			"nothing":         {nil, kindBounded},
			"fragment, empty": {rawIP(protoFrag, fam.src, fam.dst, nil), kindBounded},
		} {
			if got := kindOf(tc.p); got != tc.want {
				t.Errorf("%v, %s: kind %d, want %d", fam.src, name, got, tc.want)
			}
		}
	}
}

func TestIPLength(t *testing.T) {
	p4, p6 := rawUDP(netip.AddrPortFrom(v4(1), 1), netip.AddrPortFrom(v4(2), 2), []byte("data")), rawUDP(netip.AddrPortFrom(v6(1), 1), netip.AddrPortFrom(v6(2), 2), []byte("data"))
	for _, tc := range []struct {
		p       []byte
		version int
		length  int
	}{{p4, 4, 32}, {p6, 6, 52}, {append(bytes.Clone(p4), 1, 2), 4, 32}, {append(bytes.Clone(p6), 1, 2), 6, 52}} {
		if v, n, ok := ipLength(tc.p); v != tc.version || n != tc.length || !ok {
			t.Errorf("ipLength: %d %d %v, want %d %d", v, n, ok, tc.version, tc.length)
		}
	}
	for n := range p4 {
		if _, _, ok := ipLength(p4[:n]); ok {
			t.Errorf("IPv4 cut at %d is right", n)
		}
	}
	for n := range p6 {
		if _, _, ok := ipLength(p6[:n]); ok {
			t.Errorf("IPv6 cut at %d is right", n)
		}
	}
}

func TestUnreachableParse(t *testing.T) {
	for _, fam := range []struct {
		own, peer netip.Addr
		kind      byte
		echo      byte
		icmp      uint8
	}{{v4(1), v4(2), icmpUnreachable, icmpEcho, protoICMP}, {v6(1), v6(2), icmpv6Unreachable, icmpv6Echo, protoICMPv6}} {
		own, peer := netip.AddrPortFrom(fam.own, 1234), netip.AddrPortFrom(fam.peer, 80)
		echo := rawICMP(fam.own, fam.peer, fam.echo, 0, nil)
		binary.BigEndian.PutUint16(echo[len(echo)-4:], 77) // identifier
		for _, tc := range []struct {
			inner []byte
			want  flow
		}{
			{rawUDP(own, peer, []byte("data")), flow{protoUDP, own, peer}},
			{rawTCP(tcpSegment{src: own, dst: peer}), flow{protoTCP, own, peer}},
			{echo, flow{fam.icmp, netip.AddrPortFrom(fam.own, 77), netip.AddrPortFrom(fam.peer, 0)}},
		} {
			p := rawICMP(fam.peer, fam.own, fam.kind, 1, tc.inner)
			f, icmp, ok := unreachable(p)
			if !ok || f != tc.want || icmp[0] != fam.kind || icmp[1] != 1 {
				t.Errorf("unreachable: %+v %v, want %+v", f, ok, tc.want)
			}
			for n := range p { // cut off anywhere
				unreachable(p[:n])
			}
			if _, _, ok := unreachable(tc.inner); ok {
				t.Errorf("%+v is taken for an ICMP error", tc.want)
			}
		}
		if _, _, ok := unreachable(rawICMP(fam.peer, fam.own, fam.kind, 1, rawIP(99, fam.own, fam.peer, make([]byte, 20)))); ok {
			t.Error("a protocol without ports has a flow")
		}
		later := rawFragment(rawUDP(own, peer, make([]byte, 99)), 1, 64, 0)
		if _, _, ok := unreachable(rawICMP(fam.peer, fam.own, fam.kind, 1, later)); ok {
			t.Error("a later fragment has a flow")
		}
	}
}

// TestSetCode compares the updated checksum with one computed afresh.
func TestSetCode(t *testing.T) {
	for old := range 256 {
		for _, code := range []byte{0, 1, 3, 255} {
			p := rawICMP(v6(2), v6(1), icmpv6Unreachable, byte(old), []byte{byte(old), 1, 2, 3})
			body := p[ipv6Header:]
			setCode(body, code)
			sum := header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, addressOf(v6(2)), addressOf(v6(1)), uint16(len(body)))
			if got := checksum.Checksum(body, sum); got != 0xffff || body[1] != code {
				t.Fatalf("code %d to %d: sum %#x", old, code, got)
			}
		}
	}
}

// FuzzPacket: no input panics the readers, and they agree with each other. Its seeds are in testdata.
func FuzzPacket(f *testing.F) {
	f.Fuzz(func(t *testing.T, p []byte) {
		k := kindOf(p)
		version, n, ok := ipLength(p)
		if ok && (n > len(p) || version != 4 && version != 6) {
			t.Errorf("ipLength %d %d of %d bytes", version, n, len(p))
		}
		if _, icmp, ok := unreachable(p); ok {
			if k != kindICMP {
				t.Errorf("an ICMP error is of kind %d", k)
			}
			setCode(icmp, 0)
		}
	})
}
