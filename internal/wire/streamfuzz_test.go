package wire

import (
	"bytes"
	"testing"
)

// fuzzCanonical feeds a decoder; whatever it reads must encode to the same bytes.
func fuzzCanonical(f *testing.F, name string) {
	sample := streamSamples()[name]
	f.Add(sample)
	f.Add(sample[:len(sample)/2])
	f.Add([]byte{})
	decode := streamDecoders[name]
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		again, err := decode(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the decoder changed its input")
		}
		if err == nil && !bytes.Equal(again, b) {
			t.Fatalf("decoded %x, encoded again %x", b, again)
		}
	})
}

func FuzzOpenBody(f *testing.F)       { fuzzCanonical(f, "openbody") }
func FuzzOpenBox(f *testing.F)        { fuzzCanonical(f, "openbox") }
func FuzzAcceptBody(f *testing.F)     { fuzzCanonical(f, "acceptbody") }
func FuzzAcceptBox(f *testing.F)      { fuzzCanonical(f, "acceptbox") }
func FuzzDataBody(f *testing.F)       { fuzzCanonical(f, "data") }
func FuzzSignatureBlock(f *testing.F) { fuzzCanonical(f, "signatureblock") }
func FuzzAckBody(f *testing.F)        { fuzzCanonical(f, "ack") }
func FuzzCloseBody(f *testing.F)      { fuzzCanonical(f, "close") }
func FuzzProbeBody(f *testing.F)      { fuzzCanonical(f, "probe") }

func FuzzEnvelope(f *testing.F) {
	m := make([]byte, EnvelopeSize)
	e := Envelope{Kind: KindData, HopLimit: 16, Number: 3}
	e.Put(m)
	f.Add(m)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnvelope(b)
		if err != nil {
			return
		}
		again := make([]byte, EnvelopeSize)
		e.Put(again)
		if !bytes.Equal(again, b[:EnvelopeSize]) {
			t.Fatalf("parsed %x, put %x", b[:EnvelopeSize], again)
		}
	})
}
