package anchor

import (
	"context"
	"fmt"
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

// Revoke takes a revocation list of the realm's authority and makes it known: it is applied here,
// kept in the directory, and broadcast to all members. It starts the node if need be. A list that is
// not newer than the one in force changes nothing and is no error.
func (n *Node) Revoke(ctx context.Context, list *identity.RevocationList) error {
	p, err := n.running(ctx)
	if err == nil {
		err = p.control.Revoke(ctx, list)
	}
	if err != nil {
		return fmt.Errorf("anchor: revoke: %w", err)
	}
	return nil
}
