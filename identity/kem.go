package identity

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/cloudflare/circl/kem/xwing"
)

// Sizes in bytes of X-Wing (draft-connolly-cfrg-xwing-kem).
const (
	// KEMPublicSize is the length of an X-Wing public key.
	KEMPublicSize = xwing.PublicKeySize
	// CiphertextSize is the length of an X-Wing ciphertext.
	CiphertextSize = xwing.CiphertextSize
	// SharedSize is the length of an X-Wing shared secret.
	SharedSize = xwing.SharedKeySize
)

// Encapsulate draws a shared secret of SharedSize bytes and seals it to an X-Wing public key,
// such as that of an EpochKey. It fails with ErrFormat for what is not such a key.
func Encapsulate(kemPublic []byte) (ciphertext, shared []byte, err error) {
	if len(kemPublic) != KEMPublicSize { // circl panics
		return nil, nil, fmt.Errorf("identity: encapsulate: key of %d bytes, want %d: %w", len(kemPublic), KEMPublicSize, ErrFormat)
	}
	shared, ciphertext, err = xwing.Encapsulate(kemPublic, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: encapsulate: %w: %w", ErrFormat, err)
	}
	return ciphertext, shared, nil
}

// decapsulate opens ct. A ciphertext made for another key yields an unrelated secret, not an
// error: what is sealed with it then fails to open.
func decapsulate(key *xwing.PrivateKey, ct []byte) ([]byte, error) {
	if len(ct) != CiphertextSize { // circl panics
		return nil, fmt.Errorf("identity: decapsulate: ciphertext of %d bytes, want %d: %w", len(ct), CiphertextSize, ErrFormat)
	}
	shared := make([]byte, SharedSize)
	key.DecapsulateTo(shared, ct)
	return shared, nil
}

// epochKEM derives an anchor's X-Wing key of an epoch from its identity seed.
func epochKEM(seed [seedSize]byte, epoch uint32) (*xwing.PrivateKey, []byte, error) {
	info := binary.BigEndian.AppendUint32([]byte("anchor/1 epoch kem"), epoch)
	s, err := hkdf.Key(sha256.New, seed[:], nil, string(info), xwing.SeedSize)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: epoch key: %w", err)
	}
	key, pub := xwing.DeriveKeyPair(s)
	packed := make([]byte, KEMPublicSize)
	pub.Pack(packed)
	return key, packed, nil
}
