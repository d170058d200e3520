package packet

import (
	"net/netip"
	"testing"

	"github.com/veil-net/anchor/internal/tuntest"
)

func mustParse(t *testing.T, p []byte) *Header {
	t.Helper()
	var h Header
	if err := h.Parse(p); err != nil {
		t.Fatal(err)
	}
	return &h
}

func TestFlowOfPackets(t *testing.T) {
	udp := func(src, dst netip.Addr, sp, dp uint16, n int) uint64 {
		return mustParse(t, tuntest.UDPPacket(port(src, sp), port(dst, dp), make([]byte, n))).Flow()
	}
	base := udp(a4, b4, 1, 2, 10)
	if udp(a4, b4, 1, 2, 500) != base {
		t.Error("two packets of one flow have two hashes")
	}
	others := map[string]uint64{
		"other direction": udp(b4, a4, 2, 1, 10),
		"other ports":     udp(a4, b4, 2, 1, 10),
		"other source":    udp(netip.MustParseAddr("10.1.2.4"), b4, 1, 2, 10),
		"IPv6":            udp(a6, b6, 1, 2, 10),
		"TCP":             mustParse(t, tuntest.TCPPacket(port(a4, 1), port(b4, 2), 0, nil)).Flow(),
	}
	for name, h := range others {
		if h == base {
			t.Errorf("%s: the same hash", name)
		}
	}
}

func TestFlowOfFragments(t *testing.T) {
	udp := tuntest.UDPPacket(port(a6, 1), port(b6, 2), make([]byte, 100))[40:]
	first4 := mustParse(t, tuntest.Packet4(a4, b4, 17, 7, 0x2000, nil, udp[:48]))
	last4 := mustParse(t, tuntest.Packet4(a4, b4, 17, 7, 6, nil, udp[48:]))
	next4 := mustParse(t, tuntest.Packet4(a4, b4, 17, 8, 6, nil, udp[48:]))
	if first4.Flow() != last4.Flow() {
		t.Error("IPv4 fragments of one datagram have two hashes")
	}
	if last4.Flow() == next4.Flow() {
		t.Error("fragments of two datagrams have one hash")
	}
	options := extension(17, 0, udp)
	first6 := mustParse(t, tuntest.Packet6(a6, b6, fragment, fragment6(destOptions, 0, true, 7, options[:48])))
	last6 := mustParse(t, tuntest.Packet6(a6, b6, fragment, fragment6(destOptions, 48, false, 7, options[48:])))
	if first6.Protocol == last6.Protocol {
		t.Fatal("the test wants a first fragment that is seen through")
	}
	if first6.Flow() != last6.Flow() {
		t.Error("IPv6 fragments of one datagram have two hashes")
	}
}

// The hash spreads flows that differ in a port alone: over 8 instances none gets less than
// half or more than double its share.
func TestFlowSpreads(t *testing.T) {
	var share [8]int
	const flows = 4000
	for p := range uint16(flows) {
		h := Header{Version: 4, Src: a4, Dst: b4, Protocol: TCP, SrcPort: 30000 + p, DstPort: 443}
		share[h.Flow()%8]++
	}
	for i, n := range share {
		if n < flows/16 || n > flows/4 {
			t.Errorf("instance %d gets %d of %d flows", i, n, flows)
		}
	}
}

func BenchmarkFlow(b *testing.B) {
	h := Header{Version: 6, Src: a6, Dst: b6, Protocol: TCP, SrcPort: 1, DstPort: 2}
	var sum uint64
	for b.Loop() {
		sum += h.Flow()
	}
}
