package identity

import (
	"encoding/base32"
	"fmt"

	"github.com/veil-net/anchor/internal/wire"
)

// ID is an anchor id: SHA-256 of the anchor's ML-DSA-44 public key. It is comparable and
// may key maps. The zero ID names nobody.
type ID [32]byte

// RealmID is SHA-256 of a realm authority's ML-DSA-44 public key.
type RealmID [32]byte

// Tag names a destination on the wire; see wire.Tag.
type Tag = wire.Tag

// Nonce is a session nonce, drawn at each start.
type Nonce = wire.Nonce

var base32ID = base32.StdEncoding.WithPadding(base32.NoPadding)

// String returns the id in base32 without padding, 52 characters.
func (id ID) String() string { return base32ID.EncodeToString(id[:]) }

// Short returns the first 8 characters of String, for people to read.
func (id ID) Short() string { return id.String()[:8] }

// IsZero reports whether id names nobody.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the realm id in base32 without padding, 52 characters.
func (id RealmID) String() string { return base32ID.EncodeToString(id[:]) }

// Short returns the first 8 characters of String.
func (id RealmID) Short() string { return id.String()[:8] }

// ParseID reads the 52 characters of ID.String, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != base32ID.EncodedLen(len(id)) {
		return ID{}, fmt.Errorf("identity: %q is not an anchor id: want %d characters", s, base32ID.EncodedLen(len(id)))
	}
	up := make([]byte, len(s))
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		up[i] = c
	}
	if _, err := base32ID.Decode(id[:], up); err != nil {
		return ID{}, fmt.Errorf("identity: %q is not an anchor id: %w", s, err)
	}
	if id.String() != string(up) { // unused bits of the last character
		return ID{}, fmt.Errorf("identity: %q is not an anchor id: not canonical", s)
	}
	return id, nil
}
