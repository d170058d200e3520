package tether

import (
	"net"
	"net/netip"
)

// addrFilter says whether an address may carry a link. iface is the name of the interface
// that has it, empty for an address of a peer.
type addrFilter func(iface string, addr netip.Addr) bool

// overlayFilter refuses the realm's own overlay addresses (protocol section 1), which are
// reached through links and cannot carry them, then asks more, which may be nil.
func overlayFilter(realm netip.Prefix, own []netip.Addr, loopback bool, more addrFilter) addrFilter {
	return func(iface string, addr netip.Addr) bool {
		addr = addr.Unmap().WithZone("")
		if realm.Contains(addr) || !loopback && addr.IsLoopback() {
			return false
		}
		for _, a := range own {
			if a == addr {
				return false
			}
		}
		return more == nil || more(iface, addr)
	}
}

func addrOf(a net.Addr) (netip.Addr, bool) {
	switch a := a.(type) {
	case *net.IPNet:
		return fromIP(a.IP)
	case *net.IPAddr:
		return fromIP(a.IP)
	}
	return netip.Addr{}, false
}

func fromIP(ip net.IP) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(ip)
	return addr.Unmap(), ok
}

func linkLocal6(addr netip.Addr) bool { return addr.Is6() && addr.IsLinkLocalUnicast() }
