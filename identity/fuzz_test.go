package identity

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Each fuzz target holds two things: nothing makes a decoder panic, and what it takes is the one
// encoding of its content. Nothing but a golden input verifies.

func FuzzCertificate(f *testing.F) {
	v, want := fuzzVerifier(f), goldenFile(f, "certificate.cbor")
	f.Add(want)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b certificateBody
		if s, err := unseal(raw, MaxCertificateSize, &b); err == nil {
			if c, err := b.certificate(); err == nil {
				again := must(strict.marshal(certificateBodyOf(c, b.PublicKey)))(t)
				if !bytes.Equal(again, s.Body) || !bytes.Equal(must(strict.marshal(s))(t), raw) {
					t.Fatalf("%x encodes to something else", raw)
				}
			}
		}
		if _, err := v.Certificate(raw); err == nil && !bytes.Equal(raw, want) {
			t.Fatalf("forged certificate verifies: %x", raw)
		}
	})
}

func FuzzRecord(f *testing.F) {
	v, want := fuzzVerifier(f), goldenFile(f, "record.cbor")
	f.Add(want)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b recordBody
		if s, err := unseal(raw, MaxRecordSize, &b); err == nil {
			if !bytes.Equal(must(strict.marshal(&b))(t), s.Body) {
				t.Fatalf("body %x encodes to something else", s.Body)
			}
		}
		if _, err := v.Record(raw); err == nil && !bytes.Equal(raw, want) {
			t.Fatalf("forged record verifies: %x", raw)
		}
	})
}

func FuzzRevocations(f *testing.F) {
	v, want := fuzzVerifier(f), goldenFile(f, "revocations.cbor")
	f.Add(want)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := v.Revocations(raw); err == nil && !bytes.Equal(raw, want) {
			t.Fatalf("forged list verifies: %x", raw)
		}
	})
}

func FuzzIdentityFile(f *testing.F) {
	f.Add(goldenFile(f, "identity.bin"))
	f.Add(goldenFile(f, "authority.bin"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := Parse(b); err == nil && !bytes.Equal(must(id.Marshal())(t), b) {
			t.Fatalf("identity of %x encodes to something else", b)
		}
		// The payload too, behind a checksum that the fuzzer cannot guess.
		if id, err := Parse(encodeFile(magicIdentity, b)); err == nil && !bytes.Equal(must(id.Marshal())(t), encodeFile(magicIdentity, b)) {
			t.Fatalf("identity of payload %x encodes to something else", b)
		}
		if a, err := parseAuthority(encodeFile(magicAuthority, b)); err == nil && !bytes.Equal(must(a.marshal())(t), encodeFile(magicAuthority, b)) {
			t.Fatalf("authority of payload %x encodes to something else", b)
		}
	})
}

func fuzzVerifier(f *testing.F) *Verifier {
	id, err := Parse(goldenFile(f, "identity.bin"))
	if err != nil {
		f.Fatal(err)
	}
	return NewVerifier(id, goldenClock)
}

// certificateBodyOf is the inverse of certificateBody.certificate.
func certificateBodyOf(c *Certificate, key []byte) *certificateBody {
	b := &certificateBody{
		Realm: c.Realm[:], Serial: c.Serial, Name: c.Name, PublicKey: key, Groups: c.Groups,
		NotBefore: uint64(c.NotBefore.Unix()), NotAfter: uint64(c.NotAfter.Unix()),
	}
	if c.IPv4.IsValid() {
		b.IPv4 = c.IPv4.AsSlice()
	}
	return b
}

// writeSeeds writes the kept seeds: well-formed inputs that are wrong in one way each.
func writeSeeds(t *testing.T, g *golden) {
	for target, seeds := range fuzzSeeds(t, g) {
		dir := filepath.Join("testdata", "fuzz", target)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, b := range seeds {
			text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", b)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func fuzzSeeds(t *testing.T, g *golden) map[string]map[string][]byte {
	cert, rec, list := g.carol.Certificate().Raw, g.session.Record().Raw, g.authority.Revocations().Raw
	id := must(g.carol.Marshal())(t)
	payload := must(decodeFile(magicIdentity, id))(t)
	authority := must(decodeFile(magicAuthority, must(g.authority.marshal())(t)))(t)
	all := map[string]map[string][]byte{
		"FuzzCertificate":  {"record": rec},
		"FuzzRecord":       {"certificate": cert},
		"FuzzRevocations":  {"certificate": cert},
		"FuzzIdentityFile": {"payload": payload, "authority-payload": authority, "future-version": future(id)},
	}
	for target, raw := range map[string][]byte{
		"FuzzCertificate": cert, "FuzzRecord": rec, "FuzzRevocations": list, "FuzzIdentityFile": id,
	} {
		all[target]["empty"] = nil
		all[target]["truncated"] = raw[:len(raw)/2]
		all[target]["last-byte-missing"] = raw[:len(raw)-1]
		all[target]["trailing-byte"] = append(bytes.Clone(raw), 0)
		if target != "FuzzIdentityFile" {
			all[target]["indefinite-array"] = append(append([]byte{0x9f}, raw[1:]...), 0xff)
			all[target]["long-length"] = append([]byte{0x98, 2}, raw[1:]...)
			all[target]["null-body"] = append([]byte{0x82, 0xf6, 0x59, 0x09, 0x74}, raw[len(raw)-SignatureSize:]...)
			all[target]["empty-map"] = append([]byte{0x82, 0x41, 0xa0, 0x59, 0x09, 0x74}, raw[len(raw)-SignatureSize:]...)
		}
	}
	return all
}

// future returns an identity file of a later version, checksum and all.
func future(file []byte) []byte {
	b := bytes.Clone(file)
	b[len(magicIdentity)]++
	return reseal(b)
}
