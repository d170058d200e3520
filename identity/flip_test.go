package identity

import (
	"bytes"
	"errors"
	"testing"
)

// expectEveryFlipRejected flips bits of golden bytes one at a time: every bit with -long, else
// each short-th, an odd number so that all places in a byte have their turn.
func expectEveryFlipRejected(t *testing.T, raw []byte, short int, read func([]byte) error) {
	t.Helper()
	step := short
	switch {
	case *long:
		step = 1
	case raceEnabled: // there are no goroutines for the detector to watch
		step = short * 25
	}
	if err := read(raw); err != nil {
		t.Fatalf("golden bytes are rejected: %v", err)
	}
	b := bytes.Clone(raw)
	for bit := 0; bit < len(b)*8; bit += step {
		b[bit/8] ^= 1 << (bit % 8)
		err := read(b)
		b[bit/8] ^= 1 << (bit % 8)
		switch {
		case err == nil:
			t.Fatalf("bit %d of byte %d can be flipped unseen", bit%8, bit/8)
		case !errors.Is(err, ErrFormat) && !errors.Is(err, ErrSignature) && !errors.Is(err, ErrForeignRealm):
			t.Fatalf("bit %d of byte %d: error is of no kind: %v", bit%8, bit/8, err)
		}
	}
}

func TestFlipCertificate(t *testing.T) {
	v := goldenVerifier(t)
	expectEveryFlipRejected(t, goldenFile(t, "certificate.cbor"), 1, func(b []byte) error {
		_, err := v.Certificate(b)
		return err
	})
}

func TestFlipRecord(t *testing.T) {
	v := goldenVerifier(t)
	expectEveryFlipRejected(t, goldenFile(t, "record.cbor"), 9, func(b []byte) error {
		_, err := v.Record(b)
		return err
	})
}

func TestFlipRevocations(t *testing.T) {
	v := goldenVerifier(t)
	expectEveryFlipRejected(t, goldenFile(t, "revocations.cbor"), 1, func(b []byte) error {
		_, err := v.Revocations(b)
		return err
	})
}

func TestFlipLocator(t *testing.T) {
	c := must(goldenVerifier(t).Certificate(goldenFile(t, "certificate.cbor")))(t)
	expectEveryFlipRejected(t, goldenFile(t, "locator.bin"), 1, func(b []byte) error {
		if !verifyLocator(c, epochAt(goldenTime), b) {
			return ErrSignature
		}
		return nil
	})
}

func TestFlipIdentityFile(t *testing.T) {
	expectEveryFlipRejected(t, goldenFile(t, "identity.bin"), 1, func(b []byte) error {
		_, err := Parse(b)
		return err
	})
}

func TestFlipAuthorityFile(t *testing.T) {
	expectEveryFlipRejected(t, goldenFile(t, "authority.bin"), 1, func(b []byte) error {
		_, err := parseAuthority(b)
		return err
	})
}

func goldenVerifier(t *testing.T) *Verifier {
	t.Helper()
	return NewVerifier(must(Parse(goldenFile(t, "identity.bin")))(t), goldenClock)
}
