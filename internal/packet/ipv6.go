package packet

import (
	"encoding/binary"
	"net/netip"
)

// Next-header values of the extension headers (RFC 8200 section 4, IANA).
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	authHeader  = 51
	destOptions = 60
	mobility    = 135
	hip         = 139
	shim6       = 140
)

// maxExtensions bounds the chain of extension headers: RFC 8200 has a use for 7.
const maxExtensions = 8

// parse6 reads an IPv6 packet (RFC 8200).
func (h *Header) parse6(p []byte) error {
	if len(p) < header6 {
		return ErrShort
	}
	if int(binary.BigEndian.Uint16(p[4:]))+header6 != len(p) {
		return ErrLength
	}
	h.Version = 6
	h.Src = netip.AddrFrom16([16]byte(p[8:24]))
	h.Dst = netip.AddrFrom16([16]byte(p[24:40]))
	if err := h.walkExtensions(p); err != nil {
		return err
	}
	return h.parseUpper(p[h.Upper:])
}

// walkExtensions follows the chain of extension headers to the upper-layer header, or to
// what a later fragment holds of the datagram.
func (h *Header) walkExtensions(p []byte) error {
	next, at := p[6], header6
	for n := 0; ; n++ {
		size := 0
		switch next {
		case hopByHop, routing, destOptions, mobility, hip, shim6, authHeader, fragment:
			// The shortest extension header has 8 bytes. Hop-by-hop options stand first or nowhere.
			if n == maxExtensions || len(p)-at < 8 || (next == hopByHop && n > 0) {
				return ErrExtension
			}
			size = extensionSize(next, p[at+1])
		default:
			h.Protocol, h.Upper = Protocol(next), at
			return nil
		}
		if len(p)-at < size {
			return ErrExtension
		}
		isFragment := next == fragment
		if isFragment && !h.parseFragment(p[at:]) {
			return ErrFragment
		}
		next = p[at]
		at += size
		if isFragment && h.FragmentOffset > 0 {
			h.Protocol, h.Upper = Protocol(next), at
			return nil
		}
	}
}

// extensionSize is the length in bytes of an extension header, given its length field.
func extensionSize(kind, length byte) int {
	switch kind {
	case fragment:
		return 8
	case authHeader: // in words, less 2 (RFC 4302 section 2.2)
		return max(8, (int(length)+2)*4)
	}
	return (int(length) + 1) * 8
}

// parseFragment reads a fragment header (RFC 8200 section 4.5) at the start of b, which
// reaches to the end of the packet. An atomic fragment (RFC 6946) is a whole datagram.
func (h *Header) parseFragment(b []byte) bool {
	if h.IsFragment() {
		return false // a fragment of a fragment
	}
	f := binary.BigEndian.Uint16(b[2:])
	h.MoreFragments = f&1 != 0
	h.FragmentOffset = f &^ 7
	if h.IsFragment() {
		h.ID = binary.BigEndian.Uint32(b[4:])
	}
	return h.fits(len(b)-8, 65535)
}
