package packet_test

import (
	"net/netip"
	"testing"

	"github.com/veil-net/anchor/internal/packet"
	"github.com/veil-net/anchor/internal/tuntest"
)

func TestIsBareAck(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		a, b := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")
		if v6 {
			a, b = netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:2")
		}
		for _, tt := range []struct {
			name string
			p    []byte
			want bool
		}{
			{"bare", tuntest.TCPPacket(a, b, 0x10, nil), true},
			{"data", tuntest.TCPPacket(a, b, 0x10, []byte("x")), false},
			{"push", tuntest.TCPPacket(a, b, 0x18, nil), false},
			{"syn", tuntest.TCPPacket(a, b, 0x12, nil), false},
			{"fin", tuntest.TCPPacket(a, b, 0x11, nil), false},
			{"reset", tuntest.TCPPacket(a, b, 0x14, nil), false},
			{"no flags", tuntest.TCPPacket(a, b, 0, nil), false},
			{"udp", tuntest.UDPPacket(a, b, nil), false},
		} {
			var h packet.Header
			if err := h.Parse(tt.p); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if got := h.IsBareAck(tt.p); got != tt.want {
				t.Errorf("%s, IPv6 %v: IsBareAck = %v", tt.name, v6, got)
			}
			if h.IsBareAck(tt.p[:h.Upper]) {
				t.Errorf("%s: a cut packet counts", tt.name)
			}
		}
	}
}
