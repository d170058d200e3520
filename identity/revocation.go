package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
)

// MaxRevocationsSize is the largest encoded revocation list in bytes: one fits in a message.
const MaxRevocationsSize = 61440

// maxRevoked serials fit in a list of that size, whatever they are.
const maxRevoked = 6000

// RevocationList is an authority's statement of which certificates are void before their time. It
// is immutable and safe for concurrent use. A list that a Verifier returned has a valid signature.
type RevocationList struct {
	// Raw is the encoded form, signature included.
	Raw   []byte
	Realm RealmID
	// Number rises with each list of a realm, from 1; the highest replaces the others.
	Number uint64
	// Serials are those of the revoked certificates that may still be in date, in rising order.
	Serials []uint64
	// Generation is that of the realm secret in force since this list.
	Generation uint32
	// SecretHash is the SHA-256 of that secret.
	SecretHash [32]byte
}

// revocationBody is what the authority signs.
type revocationBody struct {
	Realm      []byte   `cbor:"1,keyasint"`
	Number     uint64   `cbor:"2,keyasint"`
	Serials    []uint64 `cbor:"3,keyasint,omitempty"`
	Generation uint32   `cbor:"4,keyasint"`
	SecretHash []byte   `cbor:"5,keyasint"`
}

// Revoked reports whether the list names a serial.
func (l *RevocationList) Revoked(serial uint64) bool {
	_, ok := slices.BinarySearch(l.Serials, serial)
	return ok
}

// HasSecret reports whether secret is the realm secret of the list's generation.
func (l *RevocationList) HasSecret(generation uint32, secret [32]byte) bool {
	h := sha256.Sum256(secret[:])
	return generation == l.Generation && subtle.ConstantTimeCompare(h[:], l.SecretHash[:]) == 1
}

// sealRevocations signs l with the authority's key and sets l.Raw.
func sealRevocations(l *RevocationList, k *privateKey) error {
	raw, err := seal(k, ContextRevocation, &revocationBody{
		Realm: l.Realm[:], Number: l.Number, Serials: l.Serials,
		Generation: l.Generation, SecretHash: l.SecretHash[:],
	})
	l.Raw = raw
	return err
}

// openRevocations decodes a list and verifies that the realm's authority signed it.
func openRevocations(raw []byte, realm RealmID, authority *PublicKey) (*RevocationList, error) {
	var b revocationBody
	s, err := unseal(raw, MaxRevocationsSize, &b)
	if err != nil {
		return nil, fmt.Errorf("identity: revocation list: %w", err)
	}
	switch {
	case len(b.Realm) != len(RealmID{}) || len(b.SecretHash) != 32:
		return nil, fmt.Errorf("identity: revocation list: %w: realm id of %d bytes, secret hash of %d", ErrFormat, len(b.Realm), len(b.SecretHash))
	case b.Number == 0:
		return nil, fmt.Errorf("identity: revocation list: %w: number 0", ErrFormat)
	case !rising(b.Serials):
		return nil, fmt.Errorf("identity: revocation list: %w: serials out of order", ErrFormat)
	}
	l := &RevocationList{
		Raw: slices.Clone(raw), Realm: RealmID(b.Realm), Number: b.Number, Serials: b.Serials,
		Generation: b.Generation, SecretHash: [32]byte(b.SecretHash),
	}
	if l.Realm != realm {
		return nil, fmt.Errorf("identity: revocation list is %w (%s, this one is %s)", ErrForeignRealm, l.Realm.Short(), realm.Short())
	}
	if !authority.Verify(ContextRevocation, s.Body, s.Signature) {
		return nil, fmt.Errorf("identity: revocation list %d: %w", l.Number, ErrSignature)
	}
	return l, nil
}

// rising reports whether each number exceeds the one before.
func rising(s []uint64) bool {
	for i := 1; i < len(s); i++ {
		if s[i-1] >= s[i] {
			return false
		}
	}
	return true
}
