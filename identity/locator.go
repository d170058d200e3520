package identity

import (
	"crypto/sha256"
	"encoding/binary"
)

// A locator is an anchor's deterministic signature over its realm, its id and an epoch. It is what
// a route's descriptor names a destination by; on the wire stands its tag.

// locatorMessage is what a locator signs.
func locatorMessage(realm RealmID, id ID, epoch uint32) []byte {
	m := make([]byte, 0, len(realm)+len(id)+4)
	m = append(m, realm[:]...)
	m = append(m, id[:]...)
	return binary.BigEndian.AppendUint32(m, epoch)
}

func verifyLocator(c *Certificate, epoch uint32, locator []byte) bool {
	return c.Verify(ContextLocator, locatorMessage(c.Realm, c.ID, epoch), locator)
}

// TagOf returns the tag that names an anchor by its locator: the first 16 bytes of
// SHA-256("anchor/1 tag" ‖ id ‖ locator).
func TagOf(id ID, locator []byte) Tag {
	const label = "anchor/1 tag"
	b := make([]byte, 0, len(label)+len(id)+SignatureSize)
	b = append(b, label...)
	b = append(b, id[:]...)
	b = append(b, locator...)
	h := sha256.Sum256(b)
	return Tag(h[:16])
}
