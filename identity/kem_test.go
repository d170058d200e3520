package identity

import (
	"bytes"
	"testing"
)

func TestEncapsulate(t *testing.T) {
	key, public, err := epochKEM([32]byte{1}, 7)
	if err != nil {
		t.Fatal(err)
	}
	ct, shared, err := Encapsulate(public)
	if err != nil || len(ct) != 1120 || len(shared) != 32 {
		t.Fatalf("ciphertext of %d bytes, secret of %d, %v", len(ct), len(shared), err)
	}
	if got := must(decapsulate(key, ct))(t); !bytes.Equal(got, shared) {
		t.Error("secrets differ")
	}
	other, otherPublic, _ := epochKEM([32]byte{1}, 8)
	if bytes.Equal(public, otherPublic) {
		t.Error("two epochs have one key")
	}
	if got := must(decapsulate(other, ct))(t); bytes.Equal(got, shared) {
		t.Error("another epoch's key opens the ciphertext")
	}
}

func TestEncapsulationSizes(t *testing.T) {
	key, public, err := epochKEM([32]byte{1}, 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, KEMPublicSize - 1, KEMPublicSize + 1} {
		_, _, err := Encapsulate(make([]byte, n))
		wantErr(t, err, ErrFormat, "key of")
	}
	for _, n := range []int{0, 1, CiphertextSize - 1, CiphertextSize + 1} {
		_, err := decapsulate(key, make([]byte, n))
		wantErr(t, err, ErrFormat, "ciphertext of")
	}
	// ML-KEM's check of FIPS 203 section 7.2: coefficients below q.
	bad := bytes.Clone(public)
	copy(bad, []byte{0xff, 0xff, 0xff})
	_, _, err = Encapsulate(bad)
	wantErr(t, err, ErrFormat, "encapsulate")
}
