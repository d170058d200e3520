package identity

import "testing"

func BenchmarkSign(b *testing.B) {
	id := must(Parse(goldenFile(b, "identity.bin")))(b)
	msg := make([]byte, 33)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := id.Sign(ContextBatch, msg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	id := must(Parse(goldenFile(b, "identity.bin")))(b)
	msg := make([]byte, 33)
	sig := must(id.Sign(ContextBatch, msg))(b)
	b.ReportAllocs()
	for b.Loop() {
		if !id.Certificate().Verify(ContextBatch, msg, sig) {
			b.Fatal("signature does not verify")
		}
	}
}

func BenchmarkVerifierRecord(b *testing.B) {
	id := must(Parse(goldenFile(b, "identity.bin")))(b)
	raw := goldenFile(b, "record.cbor")
	b.Run("new", func(b *testing.B) { // its anchor is unknown
		b.ReportAllocs()
		for b.Loop() {
			must(NewVerifier(id, nil).Record(raw))(b)
		}
	})
	b.Run("known anchor", func(b *testing.B) {
		v := NewVerifier(id, nil)
		b.ReportAllocs()
		for b.Loop() {
			must(openRecord(raw, v.Certificate))(b)
		}
	})
	b.Run("seen", func(b *testing.B) {
		v := NewVerifier(id, nil)
		b.ReportAllocs()
		for b.Loop() {
			must(v.Record(raw))(b)
		}
	})
}

func BenchmarkVerifierCheck(b *testing.B) {
	id := must(Parse(goldenFile(b, "identity.bin")))(b)
	v := NewVerifier(id, goldenClock)
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Check(id.Certificate()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSequenceChain(b *testing.B) {
	for b.Loop() {
		newChain([32]byte{1}, 1)
	}
}

func BenchmarkNewSession(b *testing.B) {
	id := must(Parse(goldenFile(b, "identity.bin")))(b)
	b.ReportAllocs()
	for b.Loop() {
		must(NewSession(id, SessionOptions{}))(b)
	}
}

func BenchmarkEncapsulate(b *testing.B) {
	s := must(NewSession(must(Parse(goldenFile(b, "identity.bin")))(b), SessionOptions{}))(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Encapsulate(s.Record().Current.KEM); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecapsulate(b *testing.B) {
	s := must(NewSession(must(Parse(goldenFile(b, "identity.bin")))(b), SessionOptions{}))(b)
	ct, _, err := Encapsulate(s.Record().Current.KEM)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		must(s.Decapsulate(s.Record().Current.Tag, ct))(b)
	}
}
