package anchor

import (
	"net/netip"
	"slices"
	"time"

	"github.com/veil-net/anchor/identity"
)

// Peer is another anchor of the realm as its verified certificate describes it.
type Peer struct {
	ID       identity.ID
	Name     string
	Groups   []string
	IPv4     netip.Addr // the zero Addr if the certificate has none
	IPv6     netip.Addr
	NotAfter time.Time // when the certificate expires
}

func peerOf(c *identity.Certificate) Peer {
	return Peer{
		ID: c.ID, Name: c.Name, Groups: slices.Clone(c.Groups),
		IPv4: c.IPv4, IPv6: c.IPv6, NotAfter: c.NotAfter,
	}
}
