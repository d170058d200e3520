package netstack

import (
	"encoding/binary"
	"net/netip"
)

// IP protocol numbers, and the header lengths that count here.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoFrag   = 44 // IPv6 fragment header
	protoICMPv6 = 58

	ipv4Header = 20
	ipv6Header = 40
	fragHeader = 8
)

// ICMP types and codes.
const (
	icmpUnreachable   = 3 // RFC 792
	icmpEcho          = 8
	icmpPort          = 3 // code
	icmpTooBig        = 4 // code: fragmentation needed
	icmpv6Unreachable = 1 // RFC 4443
	icmpv6Echo        = 128
	icmpv6NoRoute     = 0 // code
	icmpv6Port        = 4 // code
)

// kind sorts outbound packets by what bounds their number.
type kind uint8

const (
	kindBounded kind = iota // data, acknowledgements, requests: bounded by what gVisor was given
	kindReset               // TCP resets
	kindSynAck              // SYN-ACKs
	kindICMP                // ICMP, echo requests excepted
)

// kindOf sorts an outbound packet. Later fragments of ICMP count as replies: whose they are
// cannot be seen.
func kindOf(p []byte) kind {
	proto, first, body := transport(p)
	switch proto {
	case protoTCP:
		if !first || len(body) < 14 {
			return kindBounded
		}
		const syn, rst, ack = 2, 4, 16
		switch flags := body[13]; {
		case flags&rst != 0:
			return kindReset
		case flags&(syn|ack) == syn|ack:
			return kindSynAck
		}
	case protoICMP:
		if !first || len(body) == 0 || body[0] != icmpEcho {
			return kindICMP
		}
	case protoICMPv6:
		if !first || len(body) == 0 || body[0] != icmpv6Echo {
			return kindICMP
		}
	}
	return kindBounded
}

// transport finds the transport protocol of an IP packet and its bytes behind the network
// header, and says whether they begin with the transport header. Of the extension headers of
// IPv6 it knows the fragment header, the only one that occurs here. For what is no IP packet
// it returns 0.
func transport(p []byte) (proto uint8, first bool, body []byte) {
	switch {
	case len(p) >= ipv4Header && p[0]>>4 == 4:
		n := int(p[0]&15) * 4
		if n < ipv4Header || n > len(p) {
			return 0, false, nil
		}
		return p[9], binary.BigEndian.Uint16(p[6:])&0x1fff == 0, p[n:]
	case len(p) >= ipv6Header && p[0]>>4 == 6:
		if p[6] != protoFrag {
			return p[6], true, p[ipv6Header:]
		}
		p = p[ipv6Header:]
		if len(p) < fragHeader {
			return 0, false, nil
		}
		return p[0], binary.BigEndian.Uint16(p[2:])>>3 == 0, p[fragHeader:]
	}
	return 0, false, nil
}

// ipLength checks the network header's lengths against the packet. It returns the IP version
// and the length that the header states; ok is false if the packet is shorter than that, or
// no IP packet.
func ipLength(p []byte) (version, length int, ok bool) {
	if len(p) == 0 {
		return 0, 0, false
	}
	switch version = int(p[0] >> 4); {
	case version == 4 && len(p) >= ipv4Header:
		head := int(p[0]&15) * 4
		length = int(binary.BigEndian.Uint16(p[2:]))
		return version, length, head >= ipv4Header && length >= head && length <= len(p)
	case version == 6 && len(p) >= ipv6Header:
		length = ipv6Header + int(binary.BigEndian.Uint16(p[4:]))
		return version, length, length <= len(p)
	}
	return version, 0, false
}

// flow names a packet of ours by protocol, ports (of an echo: its identifier, as the local
// port) and addresses.
type flow struct {
	proto         uint8
	local, remote netip.AddrPort
}

// unreachable reads an ICMP "destination unreachable" about a packet that this stack sent:
// which packet, and with which code. ok is false for everything else. The returned icmp is
// the ICMP message within p.
func unreachable(p []byte) (f flow, icmp []byte, ok bool) {
	proto, first, body := transport(p)
	if !first || len(body) < 8 {
		return flow{}, nil, false
	}
	if !(proto == protoICMP && body[0] == icmpUnreachable || proto == protoICMPv6 && body[0] == icmpv6Unreachable) {
		return flow{}, nil, false
	}
	f, ok = flowOf(body[8:])
	return f, body, ok
}

// flowOf reads addresses and ports of a packet that this stack sent, of which p holds at
// least the first bytes.
func flowOf(p []byte) (flow, bool) {
	proto, first, body := transport(p)
	if !first || len(body) < 8 {
		return flow{}, false
	}
	var src, dst netip.Addr
	if p[0]>>4 == 4 {
		src, dst = netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
	} else {
		src, dst = netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
	}
	var sport, dport uint16
	switch proto {
	case protoTCP, protoUDP:
		sport, dport = binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])
	case protoICMP, protoICMPv6:
		sport = binary.BigEndian.Uint16(body[4:])
	default:
		return flow{}, false
	}
	return flow{proto: proto, local: netip.AddrPortFrom(src, sport), remote: netip.AddrPortFrom(dst, dport)}, true
}

// setCode changes the code of an ICMP message and its checksum with it (RFC 1624).
func setCode(icmp []byte, code byte) {
	sum := uint32(^binary.BigEndian.Uint16(icmp[2:])) + uint32(^uint16(icmp[1])) + uint32(code)
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	icmp[1] = code
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
}
