package packet

import (
	"encoding/binary"
	"net/netip"
)

// Reason says why a packet was not delivered.
type Reason uint8

// The reasons, and the ICMP and ICMPv6 messages that state them.
const (
	// NoRoute says that nobody has the destination address: network unreachable, no route to
	// destination.
	NoRoute Reason = iota + 1
	// Unreachable says that the destination cannot be reached now: host unreachable, address
	// unreachable.
	Unreachable
	// Prohibited says that policy forbids it: communication administratively prohibited.
	Prohibited
	// TooBig says that the packet exceeds the MTU: fragmentation needed, packet too big.
	TooBig
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case NoRoute:
		return "no route"
	case Unreachable:
		return "unreachable"
	case Prohibited:
		return "prohibited"
	case TooBig:
		return "too big"
	}
	return "unknown"
}

const (
	// MaxError is the size in bytes of the largest error that AppendError builds: the least
	// MTU of IPv6 (RFC 4443 section 2.4 c).
	MaxError = 1280
	// maxError4 is that of IPv4: what every host accepts (RFC 1812 section 4.3.2.3).
	maxError4 = 576

	icmpHeader = 8
	errorTTL   = 64
	// internetControl is the precedence of ICMP errors (RFC 1812 section 4.3.2.5).
	internetControl = 0xc0
)

// Answerable reports whether an ICMP error may be sent about the packet (RFC 1122 section
// 3.2.2, RFC 4443 section 2.4 e): not about ICMP errors and redirects, later fragments of
// IPv4, packets to more than one host, nor from a source that is not one host.
func (h *Header) Answerable() bool {
	switch {
	case h.IsICMPError(), IsLinkScoped(h.Dst), !isHost(h.Src), !isHost(h.Dst):
		return false
	case h.Version == 4:
		return h.FragmentOffset == 0
	}
	return h.Protocol != ICMPv6 || h.ICMPType != icmp6Redirect
}

// isHost reports whether a names one host and may stand in a packet outside of it.
func isHost(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
		return false
	}
	if a.Is4() { // "this network" (RFC 1122 section 3.2.1.3) and class E with the broadcast
		first := a.As4()[0]
		return first != 0 && first < 240
	}
	return true
}

// AppendError appends to dst the ICMP error that tells the sender of packet p, which h
// describes, why it was not delivered; mtu is stated with TooBig. It appends nothing if the
// standards forbid an answer. The error is at most MaxError bytes long and comes from
// the destination's own address: hosts refuse packets that claim to come from themselves, and
// an overlay has no router to name.
func AppendError(dst, p []byte, h *Header, why Reason, mtu int) []byte {
	if !h.Answerable() {
		return dst
	}
	if h.Version == 4 {
		return appendError4(dst, p, h, why, mtu)
	}
	return appendError6(dst, p, h, why, mtu)
}

func appendError4(dst, p []byte, h *Header, why Reason, mtu int) []byte {
	code := byte(codeHost)
	switch why {
	case NoRoute:
		code = codeNet
	case Prohibited:
		code = codeProhibited
	case TooBig:
		code = codeFragmentNeeded
	}
	quote := p[:min(len(p), maxError4-header4-icmpHeader)]
	size := header4 + icmpHeader + len(quote)
	at := len(dst)
	dst = append(dst, make([]byte, header4+icmpHeader)...)
	dst = append(dst, quote...)
	b := dst[at:]

	b[0] = 4<<4 | header4/4
	b[1] = internetControl
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	binary.BigEndian.PutUint16(b[6:], 0x4000) // don't fragment: atomic, so its id may be 0 (RFC 6864)
	b[8], b[9] = errorTTL, byte(ICMP)
	from, to := h.Dst.As4(), h.Src.As4()
	copy(b[12:], from[:])
	copy(b[16:], to[:])
	binary.BigEndian.PutUint16(b[10:], checksum(b[:header4], 0))

	m := b[header4:]
	m[0], m[1] = icmpUnreachable, code
	if why == TooBig { // RFC 1191 section 4
		binary.BigEndian.PutUint16(m[6:], uint16(min(max(mtu, 0), 65535)))
	}
	binary.BigEndian.PutUint16(m[2:], checksum(m, 0))
	return dst
}

func appendError6(dst, p []byte, h *Header, why Reason, mtu int) []byte {
	kind, code := byte(icmp6Unreachable), byte(code6AddressUnreach)
	switch why {
	case NoRoute:
		code = code6NoRoute
	case Prohibited:
		code = code6Prohibited
	case TooBig:
		kind, code = icmp6TooBig, 0
	}
	quote := p[:min(len(p), MaxError-header6-icmpHeader)]
	at := len(dst)
	dst = append(dst, make([]byte, header6+icmpHeader)...)
	dst = append(dst, quote...)
	b := dst[at:]

	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(icmpHeader+len(quote)))
	b[6], b[7] = byte(ICMPv6), errorTTL
	from, to := h.Dst.As16(), h.Src.As16()
	copy(b[8:], from[:])
	copy(b[24:], to[:])

	m := b[header6:]
	m[0], m[1] = kind, code
	if why == TooBig {
		binary.BigEndian.PutUint32(m[4:], uint32(max(mtu, 0)))
	}
	// The pseudo header (RFC 8200 section 8.1) is both addresses, length and next header.
	pseudo := sum(b[8:40], uint64(len(m))+uint64(ICMPv6))
	binary.BigEndian.PutUint16(m[2:], checksum(m, pseudo))
	return dst
}

// checksum is the Internet checksum (RFC 1071) of b, with start already summed. Over bytes
// that hold their own checksum it is 0.
func checksum(b []byte, start uint64) uint16 {
	s := sum(b, start)
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// sum adds the 16-bit words of b to start, without folding: at most 65,535 bytes at a time.
func sum(b []byte, start uint64) uint64 {
	for len(b) >= 4 {
		start += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		start += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		start += uint64(b[0]) << 8
	}
	return start
}
