package identity

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// MaxCertificateSize is the largest encoded certificate in bytes.
const MaxCertificateSize = 8192

// maxUnix is the last second of the year 9999, up to which dates have their usual form.
const maxUnix = 253402300799

// Certificate is an authority's statement about one anchor: the only source of truth for its
// name, addresses and groups. It is immutable, callers must not change what its slices hold, and
// safe for concurrent use. A Certificate that a Verifier returned has a valid signature; whether
// it is in force now is Verifier.Check's to say.
type Certificate struct {
	// Raw is the encoded form, signature included.
	Raw []byte
	// Serial is the number that the authority gave, never twice. Of two certificates for the
	// same name or address that are both in force the higher serial wins.
	Serial uint64
	// Name is unique among the certificates in force; see CheckName.
	Name string
	// ID is the SHA-256 of PublicKey.
	ID ID
	// PublicKey verifies what the anchor signs.
	PublicKey *PublicKey
	// Groups is in rising order; nil if there are none.
	Groups []string
	// IPv4 is the anchor's IPv4 address; the zero Addr if it has none.
	IPv4 netip.Addr
	// IPv6 is derived from Realm and ID.
	IPv6 netip.Addr
	// NotBefore and NotAfter are the first and the last second in which the certificate is in force, in UTC.
	NotBefore, NotAfter time.Time
	// Realm is the SHA-256 of the authority's public key.
	Realm RealmID
}

// certificateBody is what the authority signs.
type certificateBody struct {
	Realm     []byte   `cbor:"1,keyasint"`
	Serial    uint64   `cbor:"2,keyasint"`
	Name      string   `cbor:"3,keyasint"`
	PublicKey []byte   `cbor:"4,keyasint"`
	Groups    []string `cbor:"5,keyasint,omitempty"`
	IPv4      []byte   `cbor:"6,keyasint,omitempty"`
	NotBefore uint64   `cbor:"7,keyasint"` // seconds since 1970 (UTC), as time.Unix counts
	NotAfter  uint64   `cbor:"8,keyasint"`
}

// Addrs returns the anchor's overlay addresses, IPv6 first.
func (c *Certificate) Addrs() []netip.Addr {
	if c.IPv4.IsValid() {
		return []netip.Addr{c.IPv6, c.IPv4}
	}
	return []netip.Addr{c.IPv6}
}

// Verify reports whether sig is the anchor's signature over msg for purpose ctx.
func (c *Certificate) Verify(ctx Context, msg, sig []byte) bool {
	return c.PublicKey.Verify(ctx, msg, sig)
}

// String returns the name with its suffix, for people to read.
func (c *Certificate) String() string { return c.Name + ".anchor" }

// openCertificate decodes a certificate and verifies that the realm's authority signed it. Unpacking
// the key, the dearest step but one, comes last.
func openCertificate(raw []byte, realm RealmID, authority *PublicKey) (*Certificate, error) {
	var b certificateBody
	s, err := unseal(raw, MaxCertificateSize, &b)
	if err != nil {
		return nil, fmt.Errorf("identity: certificate: %w", err)
	}
	c, err := b.certificate()
	if err != nil {
		return nil, fmt.Errorf("identity: certificate: %w", err)
	}
	if c.Realm != realm {
		return nil, foreign(c, realm)
	}
	if !authority.Verify(ContextCert, s.Body, s.Signature) {
		return nil, fmt.Errorf("identity: certificate of %v: %w", c, ErrSignature)
	}
	if c.PublicKey, err = ParsePublicKey(b.PublicKey); err != nil {
		return nil, err
	}
	c.Raw = slices.Clone(raw)
	return c, nil
}

func foreign(c *Certificate, realm RealmID) error {
	return fmt.Errorf("identity: certificate of %v is %w (%s, this one is %s)", c, ErrForeignRealm, c.Realm.Short(), realm.Short())
}

// certificate checks every field and returns what the body says, without Raw and PublicKey.
func (b *certificateBody) certificate() (*Certificate, error) {
	if len(b.Realm) != len(RealmID{}) || len(b.PublicKey) != PublicKeySize {
		return nil, fmt.Errorf("%w: realm id of %d bytes, public key of %d", ErrFormat, len(b.Realm), len(b.PublicKey))
	}
	if err := CheckName(b.Name); err != nil {
		return nil, err
	}
	if err := checkGroups(b.Groups); err != nil {
		return nil, err
	}
	if b.NotBefore > maxUnix || b.NotAfter > maxUnix || b.NotBefore >= b.NotAfter {
		return nil, fmt.Errorf("%w: not-before %d and not-after %d", ErrFormat, b.NotBefore, b.NotAfter)
	}
	c := &Certificate{
		Realm: RealmID(b.Realm), Serial: b.Serial, Name: b.Name,
		ID: ID(sha256.Sum256(b.PublicKey)), Groups: b.Groups,
		NotBefore: time.Unix(int64(b.NotBefore), 0).UTC(),
		NotAfter:  time.Unix(int64(b.NotAfter), 0).UTC(),
	}
	c.IPv6 = c.Realm.Addr(c.ID)
	if b.IPv4 != nil {
		c.IPv4, _ = netip.AddrFromSlice(b.IPv4)
		if err := checkIPv4(c.IPv4); err != nil {
			return nil, err
		}
	}
	return c, nil
}
