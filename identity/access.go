package identity

import "slices"

// DefaultAllow is the access rule of a node that sets no other: anchors talk if they share a
// group, or if neither has any. It looks at nothing but groups: verify and Check certificates first.
func DefaultAllow(own, peer *Certificate) bool {
	if len(own.Groups) == 0 && len(peer.Groups) == 0 {
		return true
	}
	return slices.ContainsFunc(own.Groups, func(g string) bool { return slices.Contains(peer.Groups, g) })
}
