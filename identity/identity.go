package identity

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// maxIdentitySize is the largest identity file in bytes.
const maxIdentitySize = 128 << 10

// Identity is what an anchor runs with: private key, certificate, the authority's public key
// and the realm secret. It is immutable and safe for concurrent use. Printing or logging one
// shows its name and id, no secret. There is no useful zero value: see Authority.Issue, Load and Parse.
type Identity struct {
	key         *privateKey
	certificate *Certificate
	authority   *PublicKey
	realmName   string
	generation  uint32
	secret      [32]byte
	previous    *[32]byte       // secret of generation - 1, nil if unknown
	revocations *RevocationList // nil if none
}

// identityFile is the payload of an identity file.
type identityFile struct {
	Seed        []byte `cbor:"1,keyasint"`
	Certificate []byte `cbor:"2,keyasint"`
	Authority   []byte `cbor:"3,keyasint"`
	RealmName   string `cbor:"4,keyasint"`
	Generation  uint32 `cbor:"5,keyasint"`
	Secret      []byte `cbor:"6,keyasint"`
	Previous    []byte `cbor:"7,keyasint,omitempty"`
	Revocations []byte `cbor:"8,keyasint,omitempty"`
}

// LoadOptions are for Load. The zero value is the strict one.
type LoadOptions struct {
	// AllowGroupReadable takes a file that its group can read (mode 0640), as some
	// secret stores of orchestrators make. One that the group can change, or others can read,
	// is refused all the same.
	AllowGroupReadable bool
}

// Load reads an identity file and verifies that its parts belong together. It does not look at
// dates: an expired identity loads, and Check tells. Errors wrap fs.ErrNotExist, ErrPermissions
// (not on windows and js, where permission bits mean nothing), or what Parse returns.
func Load(path string, o LoadOptions) (*Identity, error) {
	b, err := readSecret(path, maxIdentitySize, o.AllowGroupReadable)
	if err != nil {
		return nil, fmt.Errorf("identity: load %s: %w", path, reason(err))
	}
	id, err := parseIdentity(b)
	if err != nil {
		return nil, fmt.Errorf("identity: load %s: %w", path, err)
	}
	return id, nil
}

// Parse reads what Marshal wrote. Errors wrap ErrNotIdentity, ErrVersion, ErrTruncated, ErrCorrupt
// or ErrFormat for the bytes, and ErrMismatch, ErrForeignRealm or ErrSignature for parts that
// do not belong together.
func Parse(b []byte) (*Identity, error) {
	id, err := parseIdentity(b)
	if err != nil {
		return nil, fmt.Errorf("identity: parse: %w", err)
	}
	return id, nil
}

func parseIdentity(b []byte) (*Identity, error) {
	payload, err := decodeFile(magicIdentity, b)
	if err != nil {
		return nil, err
	}
	var f identityFile
	if err := strict.unmarshal(payload, &f); err != nil {
		return nil, err
	}
	return f.identity()
}

// identity checks that the parts are whole and belong together.
func (f *identityFile) identity() (*Identity, error) {
	if len(f.Seed) != seedSize || len(f.Secret) != 32 || f.Previous != nil && (len(f.Previous) != 32 || f.Generation == 0) {
		return nil, fmt.Errorf("%w: a secret has a wrong length", ErrFormat)
	}
	if err := checkRealmName(f.RealmName); err != nil {
		return nil, err
	}
	authority, err := ParsePublicKey(f.Authority)
	if err != nil {
		return nil, err
	}
	realm := RealmID(authority.digest())
	c, err := openCertificate(f.Certificate, realm, authority)
	if err != nil {
		return nil, err
	}
	id := &Identity{
		key: privateKeyFromSeed([seedSize]byte(f.Seed)), certificate: c, authority: authority,
		realmName: f.RealmName, generation: f.Generation, secret: [32]byte(f.Secret),
	}
	if !bytes.Equal(id.key.public.packed[:], c.PublicKey.packed[:]) {
		return nil, fmt.Errorf("%w of %v", ErrMismatch, c)
	}
	if f.Previous != nil {
		id.previous = (*[32]byte)(f.Previous)
	}
	if f.Revocations != nil {
		if id.revocations, err = openRevocations(f.Revocations, realm, authority); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// Marshal returns the content of an identity file. It holds the private key in the clear.
func (i *Identity) Marshal() ([]byte, error) {
	f := identityFile{
		Seed: i.key.seed[:], Certificate: i.certificate.Raw, Authority: i.authority.packed[:],
		RealmName: i.realmName, Generation: i.generation, Secret: i.secret[:],
	}
	if i.previous != nil {
		f.Previous = i.previous[:]
	}
	if i.revocations != nil {
		f.Revocations = i.revocations.Raw
	}
	payload, err := strict.marshal(&f)
	if err != nil {
		return nil, err
	}
	return encodeFile(magicIdentity, payload), nil
}

// Save writes the identity to a file with mode 0600, in place of one that is there. A crash
// leaves the old file or the new one, never a part.
func (i *Identity) Save(path string) error {
	b, err := i.Marshal()
	if err != nil {
		return err
	}
	if err := writeSecret(path, b); err != nil {
		return fmt.Errorf("identity: save %s: %w", path, reason(err))
	}
	return nil
}

// ID returns the anchor id.
func (i *Identity) ID() ID { return i.certificate.ID }

// Certificate returns the anchor's certificate.
func (i *Identity) Certificate() *Certificate { return i.certificate }

// Realm returns the realm's id.
func (i *Identity) Realm() RealmID { return i.certificate.Realm }

// RealmName returns the realm's name. It is for people; nothing vouches for it.
func (i *Identity) RealmName() string { return i.realmName }

// AuthorityKey returns the authority's packed public key, a copy.
func (i *Identity) AuthorityKey() []byte { return i.authority.Bytes() }

// Revocations returns the revocation list that was newest when the identity was issued, nil if there
// was none.
func (i *Identity) Revocations() *RevocationList { return i.revocations }

// RealmSecret returns the newest realm secret the identity holds and its generation.
func (i *Identity) RealmSecret() (generation uint32, secret [32]byte) {
	return i.generation, i.secret
}

// PreviousRealmSecret returns the secret of the generation before, if the identity holds it: members
// that have not got the newest one yet use it for SecretGrace.
func (i *Identity) PreviousRealmSecret() (generation uint32, secret [32]byte, ok bool) {
	if i.previous == nil {
		return 0, [32]byte{}, false
	}
	return i.generation - 1, *i.previous, true
}

// WithRealmSecret returns the identity with a newer realm secret, which the caller has checked
// by RevocationList.HasSecret, or i itself if that generation is not newer. Save keeps it.
func (i *Identity) WithRealmSecret(generation uint32, secret [32]byte) *Identity {
	if generation <= i.generation {
		return i
	}
	next := *i
	next.generation, next.secret, next.previous = generation, secret, nil
	if generation == i.generation+1 {
		next.previous = &i.secret
	}
	return &next
}

// Sign returns a randomised signature over msg for purpose c, SignatureSize bytes. It fails for an
// unknown context only. It takes about 0.1 ms, at times 1 ms.
func (i *Identity) Sign(c Context, msg []byte) ([]byte, error) {
	return i.key.sign(c, msg, true)
}

// Check reports whether the identity's own certificate is in date by clock, as Verifier.Check
// does for others; nil means time.Now.
func (i *Identity) Check(clock func() time.Time) error {
	if clock == nil {
		clock = time.Now
	}
	return checkDates(i.certificate, clock())
}

// String returns name and short id.
func (i *Identity) String() string {
	return i.certificate.String() + " (" + i.ID().Short() + ")"
}

// Format prints String for every verb: the fields hold secrets.
func (i *Identity) Format(f fmt.State, _ rune) { io.WriteString(f, i.String()) }

// LogValue logs String.
func (i *Identity) LogValue() slog.Value { return slog.StringValue(i.String()) }
