package identity

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
)

// allContexts is spelled out, not taken from the table it checks.
var allContexts = []Context{
	"cert", "revocation", "locator", "record", "control", "open", "accept", "batch", "receipt",
}

func TestSignatureHoldsForItsPurposeOnly(t *testing.T) {
	k := privateKeyFromSeed([32]byte{1})
	msg := []byte("message")
	for _, c := range allContexts {
		sig := must(k.sign(c, msg, true))(t)
		for _, other := range allContexts {
			if got := k.public.Verify(other, msg, sig); got != (c == other) {
				t.Errorf("signature for %q verifies for %q: %v", c, other, got)
			}
		}
		if !mldsa44.Verify(&k.public.key, msg, []byte("anchor/1 "+string(c)), sig) {
			t.Errorf("%q: context string is not anchor/1 %s", c, c)
		}
		if k.public.Verify(c, msg[:6], sig) || k.public.Verify(c, msg, sig[:SignatureSize-1]) || k.public.Verify(c, msg, append(sig, 0)) {
			t.Errorf("%q: another message or a signature of another length verifies", c)
		}
	}
	if len(contexts) != len(allContexts) {
		t.Errorf("%d contexts, want %d", len(contexts), len(allContexts))
	}
}

func TestUnknownContext(t *testing.T) {
	k := privateKeyFromSeed([32]byte{1})
	for _, c := range []Context{"", "Cert", "data"} {
		if _, err := k.sign(c, nil, true); err == nil || !strings.Contains(err.Error(), "unknown context") {
			t.Errorf("sign for %q: %v", c, err)
		}
		sig := make([]byte, SignatureSize)
		if err := mldsa44.SignTo(k.key, nil, []byte("anchor/1 "+string(c)), true, sig); err != nil {
			t.Fatal(err)
		}
		if k.public.Verify(c, nil, sig) {
			t.Errorf("%q verifies", c)
		}
	}
}

func TestSigningIsRandomisedUnlessAsked(t *testing.T) {
	k := privateKeyFromSeed([32]byte{1})
	sign := func(randomised bool) []byte { return must(k.sign(ContextLocator, []byte("m"), randomised))(t) }
	if bytes.Equal(sign(true), sign(true)) {
		t.Error("two randomised signatures are equal")
	}
	if !bytes.Equal(sign(false), sign(false)) {
		t.Error("two deterministic signatures differ")
	}
}

func TestParsePublicKey(t *testing.T) {
	k := privateKeyFromSeed([32]byte{1}).public
	got := must(ParsePublicKey(k.Bytes()))(t)
	if !bytes.Equal(got.Bytes(), k.Bytes()) || got.digest() != k.digest() {
		t.Error("key differs after packing and unpacking")
	}
	k.Bytes()[0]++
	if !bytes.Equal(got.Bytes(), k.Bytes()) {
		t.Error("Bytes returned the key's own memory")
	}
	for _, n := range []int{0, PublicKeySize - 1, PublicKeySize + 1} {
		_, err := ParsePublicKey(make([]byte, n))
		wantErr(t, err, ErrFormat, "bytes")
	}
}

// TestSigningAllocations pins that nothing of ours allocates beside circl's three and, when
// signing, the signature.
func TestSigningAllocations(t *testing.T) {
	k := privateKeyFromSeed([32]byte{1})
	msg := make([]byte, 100)
	sig := must(k.sign(ContextBatch, msg, true))(t)
	if n := testing.AllocsPerRun(100, func() { k.public.Verify(ContextBatch, msg, sig) }); n > 3 {
		t.Errorf("verifying allocates %v times", n)
	}
	if n := testing.AllocsPerRun(20, func() { k.sign(ContextBatch, msg, true) }); n > 5 {
		t.Errorf("signing allocates %v times", n)
	}
}
