package identity

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRevocationFields(t *testing.T) {
	a, id := testRealm(t, nil)
	v := NewVerifier(id, nil)
	other, _ := testRealm(t, nil)
	good := func() *revocationBody {
		realm := a.Realm()
		return &revocationBody{Realm: realm[:], Number: 3, Serials: []uint64{1, 5, 9}, Generation: 2, SecretHash: make([]byte, 32)}
	}
	seal := func(b *revocationBody) []byte {
		return sealBytes(t, a.key, ContextRevocation, must(strict.marshal(b))(t))
	}
	l := must(v.Revocations(seal(good())))(t)
	if l.Number != 3 || l.Generation != 2 || !slices.Equal(l.Serials, []uint64{1, 5, 9}) || l.Realm != a.Realm() {
		t.Errorf("list reads %+v", l)
	}
	b := good()
	b.Serials = nil
	if l := must(v.Revocations(seal(b)))(t); l.Serials != nil || l.Revoked(0) {
		t.Error("an empty list revokes something")
	}
	for text, c := range map[string]struct {
		change func(b *revocationBody)
		want   error
	}{
		"realm id of 31":   {func(b *revocationBody) { b.Realm = b.Realm[:31] }, ErrFormat},
		"secret hash of 0": {func(b *revocationBody) { b.SecretHash = nil }, ErrFormat},
		"number 0":         {func(b *revocationBody) { b.Number = 0 }, ErrFormat},
		"out of order":     {func(b *revocationBody) { b.Serials = []uint64{5, 1} }, ErrFormat},
		"serials":          {func(b *revocationBody) { b.Serials = []uint64{5, 5} }, ErrFormat},
		"another realm":    {func(b *revocationBody) { r := other.Realm(); b.Realm = r[:] }, ErrForeignRealm},
		"at most":          {func(b *revocationBody) { b.Serials = risingFrom(1<<40, 7000) }, ErrFormat},
	} {
		b := good()
		c.change(b)
		_, err := v.Revocations(seal(b))
		wantErr(t, err, c.want, text)
	}
	body := must(strict.marshal(good()))(t)
	_, err := v.Revocations(sealBytes(t, a.key, ContextCert, body))
	wantErr(t, err, ErrSignature, "list 3")
	_, err = v.Revocations(sealBytes(t, id.key, ContextRevocation, body))
	wantErr(t, err, ErrSignature, "list 3")
}

func TestLargestListFits(t *testing.T) {
	a, id := testRealm(t, nil)
	l := &RevocationList{Realm: a.Realm(), Number: 1<<64 - 1, Generation: 1<<32 - 1, Serials: risingFrom(1<<40, maxRevoked)}
	if err := sealRevocations(l, a.key); err != nil {
		t.Fatal(err)
	}
	if len(l.Raw) > MaxRevocationsSize {
		t.Errorf("list of %d bytes, limit %d", len(l.Raw), MaxRevocationsSize)
	}
	must(NewVerifier(id, nil).Revocations(l.Raw))(t)
}

func TestRevoked(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	l := &RevocationList{}
	for n := range uint64(1000) {
		if r.IntN(3) == 0 {
			l.Serials = append(l.Serials, n)
		}
	}
	for n := range uint64(1010) {
		if l.Revoked(n) != slices.Contains(l.Serials, n) {
			t.Fatalf("serial %d revoked: %v", n, l.Revoked(n))
		}
	}
}

func risingFrom(first uint64, n int) []uint64 {
	s := make([]uint64, n)
	for i := range s {
		s[i] = first + uint64(i)
	}
	return s
}
