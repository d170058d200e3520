package packet

import (
	"net/netip"
	"testing"

	"github.com/veil-net/anchor/internal/tuntest"
)

func TestIsLinkScoped(t *testing.T) {
	for addr, want := range map[string]bool{
		"224.0.0.251": true, "239.255.255.250": true, "255.255.255.255": true, "169.254.7.7": true,
		"ff02::2": true, "ff05::1:3": true, "fe80::1": true,
		"10.0.0.1": false, "10.0.0.255": false, "127.0.0.1": false, "0.0.0.0": false, "240.0.0.1": false,
		"fd00::1": false, "2001:db8::1": false, "::1": false, "::": false,
	} {
		if got := IsLinkScoped(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestKinds(t *testing.T) {
	tests := []struct {
		name                 string
		p                    []byte
		reset, icmpErr, pong bool
	}{
		{"data", tuntest.TCPPacket(port(a4, 1), port(b4, 2), tuntest.ACK, []byte("x")), false, false, false},
		{"reset", tuntest.TCPPacket(port(a4, 1), port(b4, 2), tuntest.RST|tuntest.ACK, nil), true, false, false},
		{"reset6", tuntest.TCPPacket(port(a6, 1), port(b6, 2), tuntest.RST, nil), true, false, false},
		{"udp", tuntest.UDPPacket(port(a6, 1), port(b6, 2), []byte{4, 4, 4, 4, 4, 4}), false, false, false},
		{"unreachable", tuntest.ICMPPacket(a4, b4, 3, 1, make([]byte, 28)), false, true, false},
		{"quench", tuntest.ICMPPacket(a4, b4, 4, 0, make([]byte, 28)), false, true, false},
		{"redirect", tuntest.ICMPPacket(a4, b4, 5, 0, make([]byte, 28)), false, true, false},
		{"exceeded", tuntest.ICMPPacket(a4, b4, 11, 0, make([]byte, 28)), false, true, false},
		{"parameter", tuntest.ICMPPacket(a4, b4, 12, 0, make([]byte, 28)), false, true, false},
		{"ping", tuntest.ICMPPacket(a4, b4, 8, 0, make([]byte, 4)), false, false, false},
		{"pong", tuntest.ICMPPacket(a4, b4, 0, 0, make([]byte, 4)), false, false, true},
		{"unreachable6", tuntest.ICMPPacket(a6, b6, 1, 0, make([]byte, 44)), false, true, false},
		{"too big6", tuntest.ICMPPacket(a6, b6, 2, 0, make([]byte, 44)), false, true, false},
		{"private error6", tuntest.ICMPPacket(a6, b6, 127, 0, make([]byte, 44)), false, true, false},
		{"ping6", tuntest.ICMPPacket(a6, b6, 128, 0, make([]byte, 4)), false, false, false},
		{"pong6", tuntest.ICMPPacket(a6, b6, 129, 0, make([]byte, 4)), false, false, true},
		{"later fragment of ICMP", tuntest.Packet4(a4, b4, 1, 7, 9, nil, []byte("abc")), false, true, false},
		{"later fragment of ICMPv6", tuntest.Packet6(a6, b6, fragment, fragment6(58, 8, false, 1, []byte("abc"))), false, true, false},
	}
	for _, tt := range tests {
		h := mustParse(t, tt.p)
		if h.IsReset() != tt.reset || h.IsICMPError() != tt.icmpErr || h.IsEchoReply() != tt.pong {
			t.Errorf("%s: reset %v, error %v, echo reply %v", tt.name, h.IsReset(), h.IsICMPError(), h.IsEchoReply())
		}
		if h.IsReply() != (tt.reset || tt.icmpErr || tt.pong) {
			t.Errorf("%s: IsReply %v", tt.name, h.IsReply())
		}
	}
}
