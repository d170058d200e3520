package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Flow is a hash of the flow that the packet belongs to: of both addresses, protocol and
// ports, or, in a fragment, of both addresses and the datagram's id, so that all fragments of
// a datagram have one hash. The two directions of a connection have different hashes. The
// hash is the same in every process; it is good for spreading and no defence against
// chosen collisions.
func (h *Header) Flow() uint64 {
	sum := mix(mixAddr(h.Src)^0x9e3779b97f4a7c15, mixAddr(h.Dst)^0xd1b54a32d192ed03)
	if h.IsFragment() {
		return mix(sum, uint64(h.ID)<<1^0x8cb92ba72f3d8dd7)
	}
	ports := uint64(h.Protocol)<<32 | uint64(h.SrcPort)<<16 | uint64(h.DstPort)
	return mix(sum, ports^0xaef17502108ef2d9)
}

func mixAddr(a netip.Addr) uint64 {
	b := a.As16()
	return mix(binary.BigEndian.Uint64(b[:8])^0xa0761d6478bd642f, binary.BigEndian.Uint64(b[8:])^0xe7037ed1a0b428db)
}

// mix is the multiply-and-fold step of wyhash.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
