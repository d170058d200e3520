// Package tuntest helps to test what reads from and writes to packet devices: it builds IP
// packets, byte by byte and with no code of package packet, and has a tun.Device that a test
// feeds and watches. Only tests import it.
package tuntest

import (
	"encoding/binary"
	"net/netip"
)

// The numbers of upper-layer protocols.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// TCP flags.
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	ACK = 0x10
)

// Packet returns an IP packet from src to dst with the upper-layer payload as it is.
func Packet(src, dst netip.Addr, protocol byte, payload []byte) []byte {
	if src.Is4() {
		return Packet4(src, dst, protocol, 0, 0, nil, payload)
	}
	return Packet6(src, dst, protocol, payload)
}

// Packet4 returns an IPv4 packet with an id, a flags-and-offset field and options, whose
// length must be a multiple of 4.
func Packet4(src, dst netip.Addr, protocol byte, id, fragment uint16, options, payload []byte) []byte {
	ihl := 20 + len(options)
	p := make([]byte, ihl, ihl+len(payload))
	p[0] = 0x40 | byte(ihl/4)
	binary.BigEndian.PutUint16(p[2:], uint16(ihl+len(payload)))
	binary.BigEndian.PutUint16(p[4:], id)
	binary.BigEndian.PutUint16(p[6:], fragment)
	p[8], p[9] = 64, protocol
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	copy(p[20:], options)
	SetChecksum4(p)
	return append(p, payload...)
}

// SetChecksum4 sets the header checksum of an IPv4 packet.
func SetChecksum4(p []byte) {
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], Checksum(p[:int(p[0]&15)*4]))
}

// Packet6 returns an IPv6 packet whose first next-header value is next.
func Packet6(src, dst netip.Addr, next byte, payload []byte) []byte {
	p := make([]byte, 40, 40+len(payload))
	p[0] = 0x60
	binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
	p[6], p[7] = next, 64
	copy(p[8:], src.AsSlice())
	copy(p[24:], dst.AsSlice())
	return append(p, payload...)
}

// UDPPacket returns a UDP packet with valid checksums.
func UDPPacket(src, dst netip.AddrPort, payload []byte) []byte {
	u := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(u, src.Port())
	binary.BigEndian.PutUint16(u[2:], dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(payload)))
	u = append(u, payload...)
	binary.BigEndian.PutUint16(u[6:], transportChecksum(src.Addr(), dst.Addr(), UDP, u))
	return Packet(src.Addr(), dst.Addr(), UDP, u)
}

// TCPPacket returns a TCP segment with valid checksums.
func TCPPacket(src, dst netip.AddrPort, flags byte, payload []byte) []byte {
	s := make([]byte, 20, 20+len(payload))
	binary.BigEndian.PutUint16(s, src.Port())
	binary.BigEndian.PutUint16(s[2:], dst.Port())
	s[12], s[13] = 5<<4, flags
	s = append(s, payload...)
	binary.BigEndian.PutUint16(s[16:], transportChecksum(src.Addr(), dst.Addr(), TCP, s))
	return Packet(src.Addr(), dst.Addr(), TCP, s)
}

// ICMPPacket returns an ICMP message, of the version that the addresses have.
func ICMPPacket(src, dst netip.Addr, kind, code byte, body []byte) []byte {
	m := append([]byte{kind, code, 0, 0}, body...)
	if src.Is4() {
		binary.BigEndian.PutUint16(m[2:], Checksum(m))
		return Packet(src, dst, ICMP, m)
	}
	binary.BigEndian.PutUint16(m[2:], transportChecksum(src, dst, ICMPv6, m))
	return Packet(src, dst, ICMPv6, m)
}

func transportChecksum(src, dst netip.Addr, protocol byte, segment []byte) uint16 {
	var pseudo []byte
	pseudo = append(pseudo, src.AsSlice()...)
	pseudo = append(pseudo, dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(segment)))
	pseudo = append(pseudo, 0, 0, 0, protocol)
	return Checksum(append(pseudo, segment...))
}

// Checksum is the Internet checksum of b, as RFC 1071 writes it down.
func Checksum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		if i%2 == 0 {
			sum += uint32(v) << 8
		} else {
			sum += uint32(v)
		}
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
