package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// AuthorityFile is the name of an authority's file in its directory.
const AuthorityFile = "authority.anchor"

const (
	// maxAuthoritySize is the largest authority file in bytes, more than maxIssued
	// certificates and a full revocation list can take.
	maxAuthoritySize = 64 << 20
	// maxIssued is how many certificates in date an authority keeps track of; what the CBOR
	// decoder takes in one array is a little more.
	maxIssued = 100_000
)

// expiredFor is how long an expired certificate stays in an authority's books and on its
// revocation list: long enough for every clock that is not grossly wrong.
const expiredFor = 24 * time.Hour

// Authority issues and revokes the certificates of a realm. It works offline. Its methods are safe
// for concurrent use; what they change is lost unless Save is called before the results are handed
// out. Printing or logging one shows no secret.
type Authority struct {
	// Clock tells the time; nil means time.Now. Set it before the first call of a method.
	Clock func() time.Time

	key   *privateKey
	realm RealmID
	name  string

	mu          sync.Mutex
	generation  uint32
	secret      [32]byte
	previous    *[32]byte // secret of generation - 1
	nextSerial  uint64
	issued      []issued
	revocations *RevocationList // nil until the first Revoke
	// onDisk is the SHA-256 of the file that was read or written last; zero if none was.
	onDisk [32]byte
}

// authorityFile is the payload of an authority's file.
type authorityFile struct {
	Seed        []byte   `cbor:"1,keyasint"`
	Name        string   `cbor:"2,keyasint"`
	Generation  uint32   `cbor:"3,keyasint"`
	Secret      []byte   `cbor:"4,keyasint"`
	Previous    []byte   `cbor:"5,keyasint,omitempty"`
	NextSerial  uint64   `cbor:"6,keyasint"`
	Issued      []issued `cbor:"7,keyasint,omitempty"`
	Revocations []byte   `cbor:"8,keyasint,omitempty"`
}

// issued is what an authority remembers of a certificate. Whether it is revoked stands on the
// revocation list.
type issued struct {
	_        struct{} `cbor:",toarray"`
	Serial   uint64
	Name     string
	ID       []byte
	IPv4     []byte // empty if none
	NotAfter int64  // unix seconds
}

// Issued is a certificate in an authority's books.
type Issued struct {
	Serial   uint64
	Name     string
	ID       ID
	IPv4     netip.Addr // the zero Addr if none
	NotAfter time.Time
	Revoked  bool
}

// NewAuthority makes an authority with a new key and a new realm secret. The realm's name is for
// people: 1 to 63 bytes of printable text.
func NewAuthority(realm string) (*Authority, error) {
	if err := checkRealmName(realm); err != nil {
		return nil, err
	}
	a := &Authority{key: newPrivateKey(), name: realm, nextSerial: 1}
	a.realm = RealmID(a.key.public.digest())
	rand.Read(a.secret[:])
	return a, nil
}

// OpenAuthority reads the authority that Save wrote to dir. Errors are as those of Load.
func OpenAuthority(dir string) (*Authority, error) {
	path := filepath.Join(dir, AuthorityFile)
	b, err := readSecret(path, maxAuthoritySize, false)
	if err != nil {
		return nil, fmt.Errorf("identity: open authority %s: %w", path, reason(err))
	}
	a, err := parseAuthority(b)
	if err != nil {
		return nil, fmt.Errorf("identity: open authority %s: %w", path, err)
	}
	a.onDisk = sha256.Sum256(b)
	return a, nil
}

// Save writes the authority to a file in dir, with mode 0600, and makes dir with mode 0700 if it
// is not there. A crash leaves the old file or the new one, never a part. It refuses to replace
// a file other than the one that this Authority read or wrote last: another realm's, or its own
// changed meanwhile by another program (ErrChanged).
func (a *Authority) Save(dir string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	path := filepath.Join(dir, AuthorityFile)
	if err := a.save(dir, path); err != nil {
		return fmt.Errorf("identity: save authority %s: %w", path, reason(err))
	}
	return nil
}

func (a *Authority) save(dir, path string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	switch old, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case a.onDisk == [32]byte{}:
		return fmt.Errorf("another authority is there: %w", fs.ErrExist)
	case sha256.Sum256(old) != a.onDisk:
		return ErrChanged
	}
	b, err := a.marshal()
	if err != nil {
		return err
	}
	if err := writeSecret(path, b); err != nil {
		return err
	}
	a.onDisk = sha256.Sum256(b)
	return nil
}

func (a *Authority) marshal() ([]byte, error) {
	f := authorityFile{
		Seed: a.key.seed[:], Name: a.name, Generation: a.generation, Secret: a.secret[:],
		NextSerial: a.nextSerial, Issued: a.issued,
	}
	if a.previous != nil {
		f.Previous = a.previous[:]
	}
	if a.revocations != nil {
		f.Revocations = a.revocations.Raw
	}
	payload, err := strict.marshal(&f)
	if err != nil {
		return nil, err
	}
	return encodeFile(magicAuthority, payload), nil
}

func parseAuthority(b []byte) (*Authority, error) {
	payload, err := decodeFile(magicAuthority, b)
	if err != nil {
		return nil, err
	}
	var f authorityFile
	if err := strict.unmarshal(payload, &f); err != nil {
		return nil, err
	}
	if len(f.Seed) != seedSize || len(f.Secret) != 32 || f.Previous != nil && (len(f.Previous) != 32 || f.Generation == 0) {
		return nil, fmt.Errorf("%w: a secret has a wrong length", ErrFormat)
	}
	if err := checkRealmName(f.Name); err != nil {
		return nil, err
	}
	for i, e := range f.Issued {
		if e.Serial >= f.NextSerial || i > 0 && e.Serial <= f.Issued[i-1].Serial || len(e.ID) != len(ID{}) {
			return nil, fmt.Errorf("%w: the books are not in order at serial %d", ErrFormat, e.Serial)
		}
	}
	a := &Authority{
		key: privateKeyFromSeed([seedSize]byte(f.Seed)), name: f.Name,
		generation: f.Generation, secret: [32]byte(f.Secret),
		nextSerial: f.NextSerial, issued: f.Issued,
	}
	a.realm = RealmID(a.key.public.digest())
	if f.Previous != nil {
		a.previous = (*[32]byte)(f.Previous)
	}
	if f.Revocations != nil {
		if a.revocations, err = openRevocations(f.Revocations, a.realm, a.key.public); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Realm returns the realm's id.
func (a *Authority) Realm() RealmID { return a.realm }

// Name returns the realm's name.
func (a *Authority) Name() string { return a.name }

// Revocations returns the current revocation list, nil before the first Revoke.
func (a *Authority) Revocations() *RevocationList {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.revocations
}

// Issued returns the authority's books in order of serials: all certificates that it issued, but for
// those that expired more than a day before the last Issue or Revoke.
func (a *Authority) Issued() []Issued {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]Issued, len(a.issued))
	for i, e := range a.issued {
		addr, _ := netip.AddrFromSlice(e.IPv4)
		all[i] = Issued{
			Serial: e.Serial, Name: e.Name, ID: ID(e.ID), IPv4: addr,
			NotAfter: time.Unix(e.NotAfter, 0).UTC(), Revoked: a.isRevoked(e.Serial),
		}
	}
	return all
}

// String returns the realm's name and short id.
func (a *Authority) String() string { return "authority of " + a.name + " (" + a.realm.Short() + ")" }

// Format prints String for every verb: the fields hold secrets.
func (a *Authority) Format(f fmt.State, _ rune) { io.WriteString(f, a.String()) }

// IssueOptions say what a certificate is to state.
type IssueOptions struct {
	// Name of the anchor; see CheckName.
	Name string
	// Groups of the anchor, at most MaxGroups, in any order; see DefaultAllow. They are labels
	// as names are.
	Groups []string
	// IPv4 is an overlay address of the anchor's own; the zero Addr for none. Every anchor has an IPv6
	// address.
	IPv4 netip.Addr
	// NotBefore is when the certificate comes into force; the zero time means now. Fractions of a second are cut off.
	NotBefore time.Time
	// NotAfter is the last second in force; the zero time means one year after NotBefore.
	NotAfter time.Time
}

// Issue makes an identity with a new key. It returns ErrInUse for a name or an address that a
// certificate holds which is neither expired nor revoked, and ErrFormat for what cannot be
// in a certificate.
func (a *Authority) Issue(o IssueOptions) (*Identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, err := a.issue(o)
	if err != nil {
		return nil, fmt.Errorf("identity: issue %q: %w", o.Name, err)
	}
	return id, nil
}

func (a *Authority) issue(o IssueOptions) (*Identity, error) {
	now := a.now()
	a.forgetExpired(now)
	body, err := o.body(now)
	if err != nil {
		return nil, err
	}
	if err := a.checkFree(body, now); err != nil {
		return nil, err
	}
	if len(a.issued) >= maxIssued {
		return nil, fmt.Errorf("%d certificates are in date, no more are allowed", len(a.issued))
	}
	key := newPrivateKey()
	body.Realm, body.Serial, body.PublicKey = a.realm[:], a.nextSerial, key.public.packed[:]
	c, err := body.certificate()
	if err != nil {
		return nil, err
	}
	c.PublicKey = key.public
	if c.Raw, err = seal(a.key, ContextCert, body); err != nil {
		return nil, err
	}
	a.nextSerial++
	a.issued = append(a.issued, issued{
		Serial: c.Serial, Name: c.Name, ID: c.ID[:], IPv4: body.IPv4, NotAfter: c.NotAfter.Unix(),
	})
	return &Identity{
		key: key, certificate: c, authority: a.key.public, realmName: a.name,
		generation: a.generation, secret: a.secret, previous: a.previous, revocations: a.revocations,
	}, nil
}

// body returns the fields of a certificate that the options decide.
func (o *IssueOptions) body(now time.Time) (*certificateBody, error) {
	from, to := o.NotBefore, o.NotAfter
	if from.IsZero() {
		from = now
	}
	if to.IsZero() {
		to = from.AddDate(1, 0, 0)
	}
	if from.Unix() < 0 || to.Unix() <= from.Unix() {
		return nil, fmt.Errorf("%w: not-before %v and not-after %v", ErrFormat, from.UTC(), to.UTC())
	}
	b := &certificateBody{Name: o.Name, NotBefore: uint64(from.Unix()), NotAfter: uint64(to.Unix())}
	if len(o.Groups) > 0 {
		b.Groups = slices.Compact(slices.Sorted(slices.Values(o.Groups)))
	}
	if o.IPv4.IsValid() {
		b.IPv4 = o.IPv4.Unmap().AsSlice()
	}
	return b, nil
}

// checkFree returns ErrInUse if a certificate in force holds the name or the IPv4 address. That
// two ids share the 8 bytes that make an IPv6 address does not happen by chance.
func (a *Authority) checkFree(b *certificateBody, now time.Time) error {
	for _, e := range a.issued {
		notAfter := time.Unix(e.NotAfter, 0)
		if a.isRevoked(e.Serial) || now.After(notAfter.Add(ClockTolerance)) {
			continue
		}
		until := notAfter.UTC().Format(time.DateOnly)
		if e.Name == b.Name {
			return fmt.Errorf("name is %w: certificate %d is valid until %s; revoke it first", ErrInUse, e.Serial, until)
		}
		if len(b.IPv4) > 0 && slices.Equal(e.IPv4, b.IPv4) {
			addr, _ := netip.AddrFromSlice(b.IPv4)
			return fmt.Errorf("address %v is %w by %s: certificate %d is valid until %s", addr, ErrInUse, e.Name, e.Serial, until)
		}
	}
	return nil
}

// Revoke voids the certificate in force for name. The new list, with a higher number, takes
// effect at each anchor that gets it; the realm secret changes with it, and identities
// issued from now on carry the new one. It returns ErrNotIssued if there is no such certificate.
func (a *Authority) Revoke(name string) (*RevocationList, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, err := a.revoke(name)
	if err != nil {
		return nil, fmt.Errorf("identity: revoke %q: %w", name, err)
	}
	return l, nil
}

func (a *Authority) revoke(name string) (*RevocationList, error) {
	a.forgetExpired(a.now())
	var serials []uint64
	found := false
	for _, e := range a.issued { // in rising order of serials
		revoked := a.isRevoked(e.Serial)
		if e.Name == name && !revoked {
			revoked, found = true, true
		}
		if revoked {
			serials = append(serials, e.Serial)
		}
	}
	if !found {
		return nil, ErrNotIssued
	}
	if len(serials) > maxRevoked {
		return nil, fmt.Errorf("%d certificates in date are revoked, at most %d fit on a list", len(serials), maxRevoked)
	}
	var secret [32]byte
	rand.Read(secret[:])
	l := &RevocationList{
		Realm: a.realm, Number: 1, Serials: serials,
		Generation: a.generation + 1, SecretHash: sha256.Sum256(secret[:]),
	}
	if a.revocations != nil {
		l.Number = a.revocations.Number + 1
	}
	if err := sealRevocations(l, a.key); err != nil {
		return nil, err
	}
	old := a.secret
	a.previous, a.secret, a.generation, a.revocations = &old, secret, l.Generation, l
	return l, nil
}

func (a *Authority) isRevoked(serial uint64) bool {
	return a.revocations != nil && a.revocations.Revoked(serial)
}

// forgetExpired drops certificates that expired more than expiredFor ago from the books.
func (a *Authority) forgetExpired(now time.Time) {
	a.issued = slices.DeleteFunc(a.issued, func(e issued) bool {
		return now.Sub(time.Unix(e.NotAfter, 0)) > expiredFor
	})
}

func (a *Authority) now() time.Time {
	if a.Clock == nil {
		return time.Now()
	}
	return a.Clock()
}
