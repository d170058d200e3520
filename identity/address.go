package identity

import (
	"fmt"
	"net/netip"
)

// Prefix returns the realm's IPv6 network (RFC 4193): fd, the first 5 bytes of the realm id, and
// two zero bytes.
func (id RealmID) Prefix() netip.Prefix {
	return netip.PrefixFrom(id.Addr(ID{}), 64)
}

// Addr returns an anchor's IPv6 address in the realm: the realm's prefix and the first 8 bytes
// of the anchor id.
func (id RealmID) Addr(anchor ID) netip.Addr {
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:6], id[:5])
	copy(a[8:], anchor[:8])
	return netip.AddrFrom16(a)
}

// checkIPv4 reports why a cannot be an anchor's IPv4 address, or nil.
func checkIPv4(a netip.Addr) error {
	if !a.Is4() {
		return fmt.Errorf("identity: %v is not an IPv4 address: %w", a, ErrFormat)
	}
	b := a.As4()
	if !a.IsGlobalUnicast() || b[0] == 0 || b[0] >= 240 {
		return fmt.Errorf("identity: %v cannot be the address of one anchor: %w", a, ErrFormat)
	}
	return nil
}
