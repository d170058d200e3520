// Package packet reads the headers of IP packets: addresses, upper-layer protocol, ports,
// fragments, the flow that a packet belongs to, and what kind of traffic it is. It builds
// the ICMP errors that tell a sender why a packet was not delivered.
//
// Parsing allocates nothing, keeps no reference to the packet and never panics, whatever
// the bytes. It accepts what a host may send: exactly one packet, whose length fields agree
// with its bytes. The package knows the standard library only.
package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Protocol is the number of an upper-layer protocol (IANA protocol numbers).
type Protocol uint8

// The protocols that this package looks into.
const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
)

// Errors of Parse. They are returned as they are, so that refusing a packet costs nothing.
var (
	// ErrShort says that the bytes end within the IP header.
	ErrShort = errors.New("packet: shorter than an IP header")
	// ErrVersion says that the packet is neither IPv4 nor IPv6.
	ErrVersion = errors.New("packet: unknown IP version")
	// ErrHeader says that an IPv4 header length is below 5 words or beyond the packet.
	ErrHeader = errors.New("packet: IPv4 header length out of range")
	// ErrLength says that the length in the header is not that of the bytes. Jumbograms
	// (RFC 2675) are refused with it too.
	ErrLength = errors.New("packet: length field does not match the packet")
	// ErrChecksum says that the checksum of an IPv4 header is wrong (RFC 1812 section 5.2.2).
	ErrChecksum = errors.New("packet: IPv4 header checksum is wrong")
	// ErrFragment says that a fragment cannot belong to any datagram.
	ErrFragment = errors.New("packet: impossible fragment")
	// ErrExtension says that the chain of IPv6 extension headers is cut short, out of order or
	// longer than 8.
	ErrExtension = errors.New("packet: malformed IPv6 extension headers")
	// ErrTransport says that a TCP, UDP or ICMP header is cut short.
	ErrTransport = errors.New("packet: shorter than its transport header")
)

// Header is what Parse finds in a packet.
type Header struct {
	// Src and Dst are the addresses. IPv4-mapped IPv6 addresses are kept as they are.
	Src, Dst netip.Addr
	// Version is 4 or 6.
	Version uint8
	// Protocol is the upper-layer protocol, after all IPv6 extension headers. In a later
	// fragment it is what the fragment claims to be part of.
	Protocol Protocol
	// TCPFlags is the flags byte of a TCP header (RFC 9293 section 3.1), 0 otherwise.
	TCPFlags uint8
	// ICMPType is the type of an ICMP or ICMPv6 message, 0 otherwise.
	ICMPType uint8
	// Upper is where the upper-layer header starts in the packet.
	Upper int
	// SrcPort and DstPort are those of TCP and UDP, 0 otherwise and in later fragments.
	SrcPort, DstPort uint16
	// FragmentOffset is where the payload of a fragment stands in its datagram, in bytes.
	FragmentOffset uint16
	// MoreFragments says that others follow.
	MoreFragments bool
	// ID is what the fragments of one datagram have in common, 0 in whole datagrams.
	ID uint32
}

// IsFragment reports whether the packet is a part of a larger datagram.
func (h *Header) IsFragment() bool { return h.MoreFragments || h.FragmentOffset > 0 }

const (
	header4 = 20 // bytes of an IPv4 header without options
	header6 = 40 // bytes of an IPv6 header

	minTCP    = 20
	minUDP    = 8
	minICMP   = 8
	minICMPv6 = 4
)

// Parse reads the headers of p, which is one whole IP packet. After an error h is not
// meaningful.
func (h *Header) Parse(p []byte) error {
	*h = Header{}
	if len(p) == 0 {
		return ErrShort
	}
	switch p[0] >> 4 {
	case 4:
		return h.parse4(p)
	case 6:
		return h.parse6(p)
	}
	return ErrVersion
}

// parse4 reads an IPv4 packet (RFC 791).
func (h *Header) parse4(p []byte) error {
	if len(p) < header4 {
		return ErrShort
	}
	ihl := int(p[0]&0x0f) * 4
	if int(binary.BigEndian.Uint16(p[2:])) != len(p) {
		return ErrLength
	}
	if ihl < header4 || ihl > len(p) {
		return ErrHeader
	}
	if checksum(p[:ihl], 0) != 0 {
		return ErrChecksum
	}
	h.Version = 4
	h.Src = netip.AddrFrom4([4]byte(p[12:16]))
	h.Dst = netip.AddrFrom4([4]byte(p[16:20]))
	h.Protocol = Protocol(p[9])
	h.Upper = ihl
	const moreFragments, offsetMask = 0x2000, 0x1fff
	if f := binary.BigEndian.Uint16(p[6:]); f&(moreFragments|offsetMask) != 0 {
		h.MoreFragments = f&moreFragments != 0
		h.FragmentOffset = f & offsetMask * 8
		h.ID = uint32(binary.BigEndian.Uint16(p[4:]))
		if !h.fits(len(p)-ihl, 65535-ihl) {
			return ErrFragment
		}
	}
	return h.parseUpper(p[ihl:])
}

// fits checks a fragment with a payload of n bytes: its end must be within the largest
// datagram, and all but the last end at a multiple of 8 bytes (RFC 791, RFC 8200 section 4.5).
func (h *Header) fits(n, largest int) bool {
	return int(h.FragmentOffset)+n <= largest && (!h.MoreFragments || n%8 == 0)
}

// parseUpper reads what b, the payload of the IP layer, says about the flow. A first fragment
// may end within the transport header: what is there is read.
func (h *Header) parseUpper(b []byte) error {
	if h.FragmentOffset > 0 {
		return nil
	}
	least := 0
	switch {
	case h.Protocol == TCP:
		least = minTCP
	case h.Protocol == UDP:
		least = minUDP
	case h.Protocol == ICMP && h.Version == 4:
		least = minICMP
	case h.Protocol == ICMPv6 && h.Version == 6:
		least = minICMPv6
	default:
		return nil
	}
	if len(b) < least && !h.MoreFragments {
		return ErrTransport
	}
	switch h.Protocol {
	case TCP, UDP:
		if len(b) >= 4 {
			h.SrcPort = binary.BigEndian.Uint16(b)
			h.DstPort = binary.BigEndian.Uint16(b[2:])
		}
		if h.Protocol == TCP && len(b) >= 14 {
			h.TCPFlags = b[13]
		}
	default:
		if len(b) >= 1 {
			h.ICMPType = b[0]
		}
	}
	return nil
}
