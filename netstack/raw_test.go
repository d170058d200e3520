//go:build !js

package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Packets made by hand, for what no stack sends.

// rawIP returns an IP packet with the given body.
func rawIP(proto uint8, src, dst netip.Addr, body []byte) []byte {
	if src.Is4() {
		p := make([]byte, ipv4Header, ipv4Header+len(body))
		h := header.IPv4(p)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(ipv4Header + len(body)), TTL: 64, Protocol: proto, SrcAddr: addressOf(src), DstAddr: addressOf(dst)})
		h.SetChecksum(^h.CalculateChecksum())
		return append(p, body...)
	}
	p := make([]byte, ipv6Header, ipv6Header+len(body))
	p[0], p[6], p[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(p[4:], uint16(len(body)))
	copy(p[8:], src.AsSlice())
	copy(p[24:], dst.AsSlice())
	return append(p, body...)
}

// sealSum fills in the checksum at offset at of a transport packet.
func sealSum(proto uint8, src, dst netip.Addr, body []byte, at int) {
	binary.BigEndian.PutUint16(body[at:], 0)
	sum := uint16(0)
	if proto != protoICMP {
		sum = header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(proto), addressOf(src), addressOf(dst), uint16(len(body)))
	}
	binary.BigEndian.PutUint16(body[at:], ^checksum.Checksum(body, sum))
}

type tcpSegment struct {
	src, dst netip.AddrPort
	seq, ack uint32
	flags    header.TCPFlags
	data     []byte
}

func rawTCP(s tcpSegment) []byte {
	body := make([]byte, header.TCPMinimumSize, header.TCPMinimumSize+len(s.data))
	header.TCP(body).Encode(&header.TCPFields{SrcPort: s.src.Port(), DstPort: s.dst.Port(), SeqNum: s.seq, AckNum: s.ack, DataOffset: header.TCPMinimumSize, Flags: s.flags, WindowSize: 65535})
	body = append(body, s.data...)
	sealSum(protoTCP, s.src.Addr(), s.dst.Addr(), body, 16)
	return rawIP(protoTCP, s.src.Addr(), s.dst.Addr(), body)
}

func rawUDP(src, dst netip.AddrPort, data []byte) []byte {
	body := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(body, src.Port())
	binary.BigEndian.PutUint16(body[2:], dst.Port())
	binary.BigEndian.PutUint16(body[4:], uint16(8+len(data)))
	body = append(body, data...)
	sealSum(protoUDP, src.Addr(), dst.Addr(), body, 6)
	return rawIP(protoUDP, src.Addr(), dst.Addr(), body)
}

// rawICMP returns an ICMP message of the family's type and code, with data behind its 8 bytes.
func rawICMP(src, dst netip.Addr, kind, code byte, data []byte) []byte {
	proto := uint8(protoICMPv6)
	if src.Is4() {
		proto = protoICMP
	}
	body := make([]byte, 8, 8+len(data))
	body[0], body[1] = kind, code
	body = append(body, data...)
	sealSum(proto, src, dst, body, 2)
	return rawIP(proto, src, dst, body)
}

// rawFragment returns bytes from to to of a packet's body as a fragment; to 0 is the end.
// from must be a multiple of 8.
func rawFragment(p []byte, id uint32, from, to int) []byte {
	head := ipv4Header
	if p[0]>>4 == 6 {
		head = ipv6Header
	}
	body := p[head:]
	more := to != 0 && to < len(body)
	if to == 0 {
		to = len(body)
	}
	off := uint16(from)
	if p[0]>>4 == 4 {
		q := append([]byte(nil), p[:head]...)
		q = append(q, body[from:to]...)
		binary.BigEndian.PutUint16(q[2:], uint16(len(q)))
		binary.BigEndian.PutUint16(q[4:], uint16(id))
		off /= 8
		if more {
			off |= 0x2000
		}
		binary.BigEndian.PutUint16(q[6:], off)
		h := header.IPv4(q)
		h.SetChecksum(0)
		h.SetChecksum(^h.CalculateChecksum())
		return q
	}
	if more {
		off |= 1
	}
	frag := make([]byte, fragHeader)
	frag[0] = p[6]
	binary.BigEndian.PutUint16(frag[2:], off)
	binary.BigEndian.PutUint32(frag[4:], id)
	q := append([]byte(nil), p[:head]...)
	q[6] = protoFrag
	q = append(append(q, frag...), body[from:to]...)
	binary.BigEndian.PutUint16(q[4:], uint16(len(q)-head))
	return q
}
