package wire

import (
	"errors"
	"testing"
)

func TestEnvelope(t *testing.T) {
	want := Envelope{
		Kind: KindSignal, HopLimit: MaxHopLimit, Flags: FlagProbe,
		Tag: Tag(fill(16, 8)), Stream: StreamID(fill(16, 9)), Number: 1<<63 + 5,
	}
	m := make([]byte, EnvelopeSize)
	want.Put(m)
	if got, err := ParseEnvelope(m); err != nil || got != want {
		t.Fatalf("ParseEnvelope = %+v, %v, want %+v", got, err, want)
	}
	set := func(i int, v byte) []byte {
		c := append([]byte(nil), m...)
		c[i] = v
		return c
	}
	for name, tc := range map[string]struct {
		m    []byte
		want error
	}{
		"43 bytes":      {m[:EnvelopeSize-1], ErrShort},
		"nothing":       {nil, ErrShort},
		"65,536 bytes":  {append(m[:EnvelopeSize:EnvelopeSize], make([]byte, MaxMessage-EnvelopeSize+1)...), ErrTooLong},
		"version 2":     {set(0, 2), ErrVersion},
		"kind 0":        {set(1, 0), ErrKind},
		"kind 8":        {set(1, 8), ErrKind},
		"hop limit 17":  {set(2, 17), ErrHopLimit},
		"reserved flag": {set(3, 4), ErrFlags},
	} {
		if _, err := ParseEnvelope(tc.m); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestMasked(t *testing.T) {
	m := fill(100, 1)
	got := Masked(m)
	for i := range got {
		want := m[i]
		if i == 2 || i == 3 {
			want = 0
		}
		if got[i] != want {
			t.Errorf("byte %d is %#x, want %#x", i, got[i], want)
		}
	}
}

func TestKindNames(t *testing.T) {
	seen := map[string]bool{}
	for k := Kind(0); k < 9; k++ {
		if s := k.String(); s == "" || seen[s] {
			t.Errorf("kind %d has the name %q", uint8(k), s)
		} else {
			seen[s] = true
		}
	}
}
