package identity

import (
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"time"
)

// ClockTolerance is how far clocks may differ for the dates of certificates.
const ClockTolerance = 10 * time.Minute

// SecretGrace is how long after it learned of a new generation of the realm secret an anchor
// accepts the generation before.
const SecretGrace = 24 * time.Hour

// Bounds of a Verifier's memory. A certificate with its unpacked key takes about 30 KiB, a
// record about 15 KiB beside its certificate.
const (
	cachedCertificates = 512
	cachedRecords      = 256
)

// Verifier checks what other anchors show against one realm's authority. It remembers what it
// has verified, so that the same bytes cost one hash the next time. It is safe for concurrent use.
type Verifier struct {
	realm     RealmID
	authority *PublicKey
	clock     func() time.Time

	certificates *cache[*Certificate]
	records      *cache[*Record]
	adopted      atomic.Pointer[adopted]
}

// adopted is the newest revocation list that a Verifier took, and what follows from it.
type adopted struct {
	list       *RevocationList // nil if none
	generation uint32          // of the realm secret
	since      time.Time       // when generation became known
}

// NewVerifier returns a Verifier for the realm of id. It begins with the revocation list that
// id carries, if any. A nil clock means time.Now.
func NewVerifier(id *Identity, clock func() time.Time) *Verifier {
	if clock == nil {
		clock = time.Now
	}
	v := &Verifier{
		realm: id.Realm(), authority: id.authority, clock: clock,
		certificates: newCache[*Certificate](cachedCertificates),
		records:      newCache[*Record](cachedRecords),
	}
	first := &adopted{generation: id.generation, since: clock()}
	if l := id.revocations; l != nil {
		first.list, first.generation = l, max(l.Generation, id.generation)
	}
	v.adopted.Store(first)
	return v
}

// Certificate decodes a certificate and verifies the authority's signature. It asks no clock and
// no revocation list: call Check for that, each time. The result keeps no reference to raw and
// is shared: equal bytes yield the same pointer while it is remembered. Errors wrap ErrFormat,
// ErrForeignRealm or ErrSignature.
func (v *Verifier) Certificate(raw []byte) (*Certificate, error) {
	if len(raw) > MaxCertificateSize {
		return nil, fmt.Errorf("identity: certificate: %w: %d bytes, at most %d allowed", ErrFormat, len(raw), MaxCertificateSize)
	}
	key := sha256.Sum256(raw)
	if c, ok := v.certificates.get(key); ok {
		return c, nil
	}
	c, err := openCertificate(raw, v.realm, v.authority)
	if err != nil {
		return nil, err
	}
	return v.certificates.put(key, c), nil
}

// Record decodes a record and verifies all its signatures: the authority's on the certificate, the
// anchor's on the record and on both locators. It does not Check the certificate. Otherwise it
// is as Certificate.
func (v *Verifier) Record(raw []byte) (*Record, error) {
	if len(raw) > MaxRecordSize {
		return nil, fmt.Errorf("identity: record: %w: %d bytes, at most %d allowed", ErrFormat, len(raw), MaxRecordSize)
	}
	key := sha256.Sum256(raw)
	if r, ok := v.records.get(key); ok {
		return r, nil
	}
	r, err := openRecord(raw, v.Certificate)
	if err != nil {
		return nil, err
	}
	return v.records.put(key, r), nil
}

// Revocations decodes a revocation list and verifies the authority's signature. It does not adopt
// it: see Apply. Errors are as those of Certificate.
func (v *Verifier) Revocations(raw []byte) (*RevocationList, error) {
	return openRevocations(raw, v.realm, v.authority)
}

// Apply adopts a list that Revocations returned, if its number is higher than that of the one held,
// and reports whether it did.
func (v *Verifier) Apply(list *RevocationList) bool {
	for {
		old := v.adopted.Load()
		if list == nil || list.Realm != v.realm || old.list != nil && list.Number <= old.list.Number {
			return false
		}
		next := &adopted{list: list, generation: old.generation, since: old.since}
		if list.Generation > old.generation {
			next.generation, next.since = list.Generation, v.clock()
		}
		if v.adopted.CompareAndSwap(old, next) {
			return true
		}
	}
}

// Current returns the list adopted last, nil if none.
func (v *Verifier) Current() *RevocationList { return v.adopted.Load().list }

// Generation returns the newest generation of the realm secret that the Verifier knows to be in
// force, whether or not the anchor holds that secret.
func (v *Verifier) Generation() uint32 { return v.adopted.Load().generation }

// AcceptsGeneration reports whether messages under a generation of the realm secret are to be
// accepted now: the newest, and for SecretGrace after it became known the one before.
func (v *Verifier) AcceptsGeneration(generation uint32) bool {
	a := v.adopted.Load()
	if generation == a.generation {
		return true
	}
	return generation < a.generation && a.generation-generation == 1 && v.clock().Sub(a.since) < SecretGrace
}

// Check reports whether a verified certificate is in force now: ErrExpired or ErrNotYetValid with
// ClockTolerance, ErrRevoked by the list adopted last. It costs no signature check.
func (v *Verifier) Check(c *Certificate) error {
	if c.Realm != v.realm {
		return foreign(c, v.realm)
	}
	if l := v.Current(); l != nil && l.Revoked(c.Serial) {
		return fmt.Errorf("identity: %v: %w (serial %d, revocation list %d)", c, ErrRevoked, c.Serial, l.Number)
	}
	return checkDates(c, v.clock())
}

// checkDates reports whether a certificate is in date at a time. A wrong clock is the usual
// cause, so the error says what the clock shows.
func checkDates(c *Certificate, now time.Time) error {
	var err error
	var date time.Time
	switch {
	case now.After(c.NotAfter.Add(ClockTolerance)):
		err, date = ErrExpired, c.NotAfter
	case now.Before(c.NotBefore.Add(-ClockTolerance)):
		err, date = ErrNotYetValid, c.NotBefore
	default:
		return nil
	}
	on := " on"
	if err == ErrNotYetValid {
		on = ""
	}
	const form = "2006-01-02 15:04:05 UTC"
	return fmt.Errorf("identity: %v: %w%s %s (10 minutes tolerance; is this machine's clock right? it says %s)",
		c, err, on, date.UTC().Format(form), now.UTC().Format(form))
}
