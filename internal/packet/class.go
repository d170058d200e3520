package packet

import "net/netip"

// ICMP types that this package knows by name (RFC 792, RFC 4443, RFC 4861).
const (
	icmpEchoReply       = 0
	icmpUnreachable     = 3
	icmpSourceQuench    = 4
	icmpRedirect        = 5
	icmpTimeExceeded    = 11
	icmpParameter       = 12
	icmp6Unreachable    = 1
	icmp6TooBig         = 2
	icmp6FirstInfo      = 128 // lower types are errors
	icmp6EchoReply      = 129
	icmp6Redirect       = 137
	tcpRST              = 0x04
	tcpACK              = 0x10
	codeFragmentNeeded  = 4
	codeNet             = 0
	codeHost            = 1
	codeProhibited      = 13 // RFC 1812 section 5.2.7.1
	code6NoRoute        = 0
	code6Prohibited     = 1
	code6AddressUnreach = 3
)

// limitedBroadcast never leaves a link (RFC 919).
var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// IsLinkScoped reports whether a is an address that an overlay does not carry: multicast,
// limited broadcast, or link-local.
func IsLinkScoped(a netip.Addr) bool {
	return a.IsMulticast() || a.IsLinkLocalUnicast() || a == limitedBroadcast
}

// IsReset reports whether the packet is a TCP segment with the flag RST.
func (h *Header) IsReset() bool { return h.Protocol == TCP && h.TCPFlags&tcpRST != 0 }

// IsBareAck reports whether p, which h was parsed from, is a TCP segment that does nothing but
// acknowledge: no data, and no flag but ACK.
func (h *Header) IsBareAck(p []byte) bool {
	const dataOffset = 12 // where the byte with the header's length stands
	if h.Protocol != TCP || h.TCPFlags != tcpACK || h.IsFragment() || len(p) <= h.Upper+dataOffset {
		return false
	}
	return len(p) == h.Upper+int(p[h.Upper+dataOffset]>>4)*4
}

// IsICMPError reports whether the packet is an ICMP error message. What could be one, a later
// fragment of an ICMP message, counts as one.
func (h *Header) IsICMPError() bool {
	switch {
	case h.Version == 4 && h.Protocol == ICMP:
		if h.FragmentOffset > 0 {
			return true
		}
		switch h.ICMPType {
		case icmpUnreachable, icmpSourceQuench, icmpRedirect, icmpTimeExceeded, icmpParameter:
			return true
		}
	case h.Version == 6 && h.Protocol == ICMPv6:
		return h.FragmentOffset > 0 || h.ICMPType < icmp6FirstInfo
	}
	return false
}

// IsEchoReply reports whether the packet is an ICMP echo reply, or its first fragment.
func (h *Header) IsEchoReply() bool {
	if h.FragmentOffset > 0 {
		return false
	}
	return (h.Version == 4 && h.Protocol == ICMP && h.ICMPType == icmpEchoReply) ||
		(h.Version == 6 && h.Protocol == ICMPv6 && h.ICMPType == icmp6EchoReply)
}

// IsReply reports whether the packet is one that a network stack sends by itself in answer to
// another, and that nothing waits for: a TCP reset, an ICMP error or an echo reply.
func (h *Header) IsReply() bool { return h.IsReset() || h.IsICMPError() || h.IsEchoReply() }
