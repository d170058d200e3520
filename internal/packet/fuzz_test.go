package packet

import (
	"bytes"
	"testing"

	"github.com/veil-net/anchor/internal/tuntest"
)

// Whatever the bytes: no panic, nothing is read or promised beyond the packet, and an error
// about a packet is itself a packet, with right checksums, that is never answered.
func FuzzParse(f *testing.F) {
	for _, p := range [][]byte{
		tuntest.UDPPacket(port(a4, 1), port(b4, 2), []byte("x")),
		tuntest.TCPPacket(port(a6, 1), port(b6, 2), tuntest.RST, nil),
		tuntest.ICMPPacket(a4, b4, 3, 1, make([]byte, 28)),
		tuntest.ICMPPacket(a6, b6, 128, 0, make([]byte, 8)),
		tuntest.Packet4(a4, b4, 17, 7, 0x2000, make([]byte, 40), make([]byte, 8)),
		tuntest.Packet6(a6, b6, hopByHop, extension(fragment, 0, fragment6(17, 8, false, 1, make([]byte, 8)))),
		tuntest.Packet6(a6, b6, authHeader, append([]byte{17, 255}, make([]byte, 30)...)),
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		before := bytes.Clone(p)
		var h Header
		if h.Parse(p) != nil {
			return
		}
		if h.Upper < 20 || h.Upper > len(p) || (h.Version != 4 && h.Version != 6) || len(p) > 65575 {
			t.Fatalf("%d bytes: %+v", len(p), h)
		}
		if h.Src.Is4() != (h.Version == 4) || h.Dst.Is4() != (h.Version == 4) {
			t.Fatalf("addresses of the other version: %+v", h)
		}
		if !h.IsFragment() && h.ID != 0 {
			t.Fatalf("a whole datagram has an id: %+v", h)
		}
		for why := NoRoute; why <= TooBig; why++ {
			e := AppendError(nil, p, &h, why, 1280)
			if len(e) == 0 {
				continue
			}
			var eh Header
			if err := eh.Parse(e); err != nil || len(e) > MaxError {
				t.Fatalf("%v: %d bytes: %v", why, len(e), err)
			}
			if eh.Src != h.Dst || eh.Dst != h.Src || !eh.IsICMPError() || eh.Answerable() {
				t.Fatalf("%v: %+v", why, eh)
			}
		}
		if !bytes.Equal(p, before) {
			t.Fatal("the packet was changed")
		}
	})
}
