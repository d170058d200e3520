package stream

import (
	"bytes"
	"errors"
	"maps"
	"testing"

	"github.com/veil-net/anchor/internal/wire"
)

// flipped is the error that is due when bit of byte at of a message is flipped; nil if the
// message is as good as before, which holds for hop limit and flags alone.
func flipped(name string, m []byte, at int, bit byte) error {
	handshake := name == "open" || name == "accept"
	v := m[at] ^ bit
	switch {
	case at == 0:
		return wire.ErrVersion
	case at == 1:
		k := wire.Kind(v)
		control := k == wire.KindClose || k == wire.KindProbe || k == wire.KindSignal && name != "replyprobe" && name != "replyclose"
		switch {
		case k < wire.KindData || k > wire.KindSignal:
			return wire.ErrKind
		case control && !handshake && name != "data" && name != "ack":
			return ErrSeal // the same function takes it
		}
		return ErrKind
	case at == 2: // hop limit: a relay lowers it
		if v > wire.MaxHopLimit {
			return wire.ErrHopLimit
		}
		return nil
	case at == 3: // flags: bits 0 and 1 are a relay's and the origin's to set
		if v&^(wire.FlagDetour|wire.FlagProbe) != 0 {
			return wire.ErrFlags
		}
		return nil
	case at < 20: // tag
		if handshake {
			return ErrTag
		}
		return ErrSeal
	case at < 36: // stream id
		if name == "open" {
			return ErrSeal
		}
		return ErrStreamID
	case at < wire.EnvelopeSize: // number
		switch {
		case handshake:
			return ErrMalformed
		case at < 41 || at == 41 && v >= HardMessages>>16:
			return ErrLimit
		}
		return ErrSeal
	case at == wire.EnvelopeSize && name == "open":
		return wire.ErrSuite
	}
	return ErrSeal
}

// Every bit of every message of a conversation is flipped, and the error that names the
// fault comes back.
func TestEveryBitFlipped(t *testing.T) {
	c := converse(t)
	all := maps.Clone(c.fromAlice)
	maps.Copy(all, c.fromBob)
	all["accept"] = c.accept
	all["open"] = c.open[:len(c.open):len(c.open)]
	for name, m := range all {
		if err := c.arrive(name, m); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		end := len(m)
		if name == "open" { // see below
			end = wire.EnvelopeSize + 1
		}
		flip(t, name, m, 0, end, 1, func(m []byte) error { return c.arrive(name, m) })
	}
	step := 1
	if raceEnabled && !*long {
		step = 7 // each byte, and in turn each of its bits
	}
	prefix := wire.EnvelopeSize + len(wire.OpenPrefix(c.open[wire.EnvelopeSize:]))
	flip(t, "open", c.open, wire.EnvelopeSize+1, prefix, step, func(m []byte) error { return c.arrive("open", m) })
	// The box of an open is large. Its bits do not change what is decapsulated, so that need
	// not be done for each of them.
	h, err := OpenBox1(c.realm.bob.session, c.open)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, "open", c.open, prefix, len(c.open), step, func(m []byte) error { return h.unbox(m, len(m)-prefix) })
}

// flip flips every step-th bit of m from byte from to byte to.
func flip(t *testing.T, name string, m []byte, from, to, step int, arrive func(m []byte) error) {
	t.Helper()
	m = bytes.Clone(m)
	failed := 0
	for n := from * 8; n < to*8 && failed < 10; n += step {
		at, bit := n/8, byte(1)<<(n%8)
		want := flipped(name, m, at, bit)
		m[at] ^= bit
		if err := arrive(m); !errors.Is(err, want) {
			t.Errorf("%s: byte %d, bit %#x: got error %v, want %v", name, at, bit, err, want)
			failed++
		}
		m[at] ^= bit
	}
}

// A message cut anywhere is refused.
func TestEveryLengthCut(t *testing.T) {
	c := converse(t)
	all := maps.Clone(c.fromAlice)
	maps.Copy(all, c.fromBob)
	all["accept"], all["open"] = c.accept, c.open
	for name, m := range all {
		step := 1
		if name == "open" && !*long {
			step = 97
		}
		for n := 0; n < len(m); n += step {
			err := c.arrive(name, m[:n])
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrSeal) {
				t.Errorf("%s, first %d of %d bytes: %v", name, n, len(m), err)
				break
			}
		}
		if err := c.arrive(name, append(bytes.Clone(m), 0)); !errors.Is(err, ErrSeal) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a byte added: %v", name, err)
		}
	}
}
