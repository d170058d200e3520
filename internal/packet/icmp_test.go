package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/veil-net/anchor/internal/tuntest"
)

func TestErrors4(t *testing.T) {
	tests := []struct {
		why  Reason
		code int
		mtu  int
	}{{NoRoute, 0, 0}, {Unreachable, 1, 0}, {Prohibited, 13, 0}, {TooBig, 4, 1400}}
	for _, tt := range tests {
		for _, size := range []int{0, 1, 7, 500, 1400, 60000} {
			p := tuntest.UDPPacket(port(a4, 1), port(b4, 2), make([]byte, size))
			h := mustParse(t, p)
			got := AppendError([]byte("before"), p, h, tt.why, tt.mtu)
			if string(got[:6]) != "before" {
				t.Fatal("overwrites what it appends to")
			}
			got = got[6:]
			if len(got) > 576 || len(got) != min(28+len(p), 576) {
				t.Errorf("%v about %d bytes has %d bytes", tt.why, len(p), len(got))
			}
			eh := mustParse(t, got)
			if eh.Src != b4 || eh.Dst != a4 || !eh.IsICMPError() || eh.IsFragment() {
				t.Errorf("%v: header %+v", tt.why, eh)
			}
			if tuntest.Checksum(got[20:]) != 0 {
				t.Errorf("%v about %d bytes: ICMP checksum is wrong", tt.why, len(p))
			}
			m, err := icmp.ParseMessage(1, got[20:])
			if err != nil {
				t.Fatal(err)
			}
			if m.Type != ipv4.ICMPTypeDestinationUnreachable || m.Code != tt.code {
				t.Errorf("%v: type %v code %d", tt.why, m.Type, m.Code)
			}
			if mtu := binary.BigEndian.Uint16(got[26:]); int(mtu) != tt.mtu {
				t.Errorf("%v: states an MTU of %d", tt.why, mtu)
			}
			if !bytes.HasPrefix(p, got[28:]) {
				t.Errorf("%v: quotes something else", tt.why)
			}
			if out := AppendError(nil, got, eh, Unreachable, 0); len(out) != 0 {
				t.Error("an ICMP error is answered by an ICMP error")
			}
		}
	}
}

func TestErrors6(t *testing.T) {
	tests := []struct {
		why  Reason
		kind icmp.Type
		code int
		mtu  int
	}{
		{NoRoute, ipv6.ICMPTypeDestinationUnreachable, 0, 0}, {Unreachable, ipv6.ICMPTypeDestinationUnreachable, 3, 0},
		{Prohibited, ipv6.ICMPTypeDestinationUnreachable, 1, 0}, {TooBig, ipv6.ICMPTypePacketTooBig, 0, 60000},
	}
	for _, tt := range tests {
		for _, size := range []int{0, 1, 7, 1184, 1185, 60000} {
			p := tuntest.UDPPacket(port(a6, 1), port(b6, 2), make([]byte, size))
			h := mustParse(t, p)
			got := AppendError(nil, p, h, tt.why, tt.mtu)
			if len(got) > 1280 || len(got) != min(48+len(p), 1280) {
				t.Errorf("%v about %d bytes has %d bytes", tt.why, len(p), len(got))
			}
			eh := mustParse(t, got)
			if eh.Src != b6 || eh.Dst != a6 || !eh.IsICMPError() {
				t.Errorf("%v: header %+v", tt.why, eh)
			}
			m, err := icmp.ParseMessage(58, got[40:])
			if err != nil {
				t.Fatal(err)
			}
			if m.Type != tt.kind || m.Code != tt.code {
				t.Errorf("%v: type %v code %d", tt.why, m.Type, m.Code)
			}
			// The same message, built the slow way, has the same checksum.
			body := bytes.Clone(got[44:])
			if want := tuntest.ICMPPacket(b6, a6, got[40], got[41], body); !bytes.Equal(want[40:], got[40:]) {
				t.Errorf("%v about %d bytes: checksum %x, want %x", tt.why, len(p), got[42:44], want[42:44])
			}
			if mtu := binary.BigEndian.Uint32(got[44:]); int(mtu) != tt.mtu {
				t.Errorf("%v: states an MTU of %d", tt.why, mtu)
			}
			if out := AppendError(nil, got, eh, Unreachable, 0); len(out) != 0 {
				t.Error("an ICMP error is answered by an ICMP error")
			}
		}
	}
}

func TestAnswerable(t *testing.T) {
	ip := netip.MustParseAddr
	udp := func(src, dst string) []byte { return tuntest.UDPPacket(port(ip(src), 1), port(ip(dst), 2), nil) }
	tests := []struct {
		name string
		p    []byte
		want bool
	}{
		{"udp4", udp("10.0.0.1", "10.0.0.2"), true},
		{"udp6", udp("fd00::1", "fd00::2"), true},
		{"to multicast", udp("10.0.0.1", "224.0.0.5"), false},
		{"to broadcast", udp("10.0.0.1", "255.255.255.255"), false},
		{"to link-local", udp("10.0.0.1", "169.254.0.1"), false},
		{"to class E", udp("10.0.0.1", "240.0.0.1"), false},
		{"to loopback", udp("10.0.0.1", "127.0.0.1"), false},
		{"to multicast6", udp("fd00::1", "ff02::1"), false},
		{"from nobody", udp("0.0.0.0", "10.0.0.2"), false},
		{"from this network", udp("0.1.2.3", "10.0.0.2"), false},
		{"from loopback", udp("127.0.0.1", "10.0.0.2"), false},
		{"from multicast", udp("224.0.0.1", "10.0.0.2"), false},
		{"from broadcast", udp("255.255.255.255", "10.0.0.2"), false},
		{"from nobody6", udp("::", "fd00::2"), false},
		{"from loopback6", udp("::1", "fd00::2"), false},
		{"from multicast6", udp("ff02::1", "fd00::2"), false},
		{"reset", tuntest.TCPPacket(port(a4, 1), port(b4, 2), tuntest.RST, nil), true},
		{"ping", tuntest.ICMPPacket(a4, b4, 8, 0, make([]byte, 4)), true},
		{"unreachable", tuntest.ICMPPacket(a4, b4, 3, 0, make([]byte, 28)), false},
		{"redirect", tuntest.ICMPPacket(a4, b4, 5, 0, make([]byte, 28)), false},
		{"ping6", tuntest.ICMPPacket(a6, b6, 128, 0, make([]byte, 4)), true},
		{"unknown error6", tuntest.ICMPPacket(a6, b6, 100, 0, make([]byte, 4)), false},
		{"redirect6", tuntest.ICMPPacket(a6, b6, 137, 0, make([]byte, 36)), false},
		{"first fragment4", tuntest.Packet4(a4, b4, 17, 7, 0x2000, nil, make([]byte, 8)), true},
		{"later fragment4", tuntest.Packet4(a4, b4, 17, 7, 1, nil, make([]byte, 8)), false},
		{"later fragment6", tuntest.Packet6(a6, b6, fragment, fragment6(17, 8, false, 1, make([]byte, 8))), true},
		{"later fragment6 of ICMPv6", tuntest.Packet6(a6, b6, fragment, fragment6(58, 8, false, 1, make([]byte, 8))), false},
	}
	for _, tt := range tests {
		h := mustParse(t, tt.p)
		if h.Answerable() != tt.want {
			t.Errorf("%s: Answerable is %v", tt.name, !tt.want)
		}
		if got := AppendError(nil, tt.p, h, Unreachable, 0); (len(got) > 0) != tt.want {
			t.Errorf("%s: an error of %d bytes", tt.name, len(got))
		}
	}
}

func TestChecksumAgainstModel(t *testing.T) {
	b := make([]byte, 0, 300)
	for i := range 300 {
		b = append(b, byte(i*i*31+0xf3))
		if got, want := checksum(b, 0), tuntest.Checksum(b); got != want {
			t.Fatalf("checksum of %d bytes is %#x, want %#x", len(b), got, want)
		}
	}
	worst := bytes.Repeat([]byte{0xff}, 65535)
	if got, want := checksum(worst, 0), tuntest.Checksum(worst); got != want {
		t.Errorf("checksum of 65,535 x 0xff is %#x, want %#x", got, want)
	}
}

func TestReasonNames(t *testing.T) {
	for r, want := range map[Reason]string{NoRoute: "no route", Unreachable: "unreachable", Prohibited: "prohibited", TooBig: "too big", 0: "unknown"} {
		if r.String() != want {
			t.Errorf("reason %d is %q", r, r)
		}
	}
}
