package wire

import (
	"bytes"
	"errors"
	"testing"
)

// controlSample is one layout of control messages: a value of it, and reading and writing it again.
type controlSample struct {
	bytes []byte
	parse func([]byte) (again []byte, err error)
}

func sampleControlDirect(record int) *ControlDirect {
	return &ControlDirect{
		Topic: 0x10, Sender: [32]byte(fill(32, 1)), Receiver: [32]byte(fill(32, 2)), ReceiverSession: Nonce(fill(32, 3)),
		Tag: Tag(fill(16, 4)), Ciphertext: fill(CiphertextSize, 5), Record: fill(record, 6),
		Box: fill(40, 7), Signature: fill(SignatureSize, 8),
	}
}

// controlSamples are one value of each layout.
func controlSamples() map[string]controlSample {
	header := ControlHeader{Generation: 7, Session: Nonce(fill(32, 9)), Counter: 1<<40 + 2}
	broadcast := ControlBroadcast{Topic: 0x12, Sender: [32]byte(fill(32, 1)), Body: fill(100, 2), Signature: fill(SignatureSize, 3)}
	presence := ControlPresence{ID: [32]byte(fill(32, 1)), Counter: 1<<33 + 5, Signature: fill(SignatureSize, 2)}
	direct := func(b []byte) ([]byte, error) {
		d, signed, err := ParseControlDirect(b)
		if err == nil && !bytes.Equal(signed, d.AppendUnsigned(nil)) {
			err = errors.New("signed part is not what AppendUnsigned writes")
		}
		return append(d.AppendUnsignedIf(err), d.Signature...), err
	}
	blob := func(form ControlForm) func([]byte) ([]byte, error) {
		return func(b []byte) ([]byte, error) {
			v, err := ParseControlBlob(b, form)
			return append([]byte{byte(form)}, v...), err
		}
	}
	return map[string]controlSample{
		"controlheader": {append(header.Append(nil), fill(SealOverhead+1, 1)...), func(b []byte) ([]byte, error) {
			h, body, err := ParseControlHeader(b)
			return append(h.Append(nil), body...), err
		}},
		"controldirect":     {append(sampleControlDirect(300).AppendUnsigned(nil), fill(SignatureSize, 8)...), direct},
		"controldirectbare": {append(sampleControlDirect(0).AppendUnsigned(nil), fill(SignatureSize, 8)...), direct},
		"controlbroadcast": {append(broadcast.AppendUnsigned(nil), broadcast.Signature...), func(b []byte) ([]byte, error) {
			m, signed, err := ParseControlBroadcast(b)
			if err == nil && !bytes.Equal(signed, m.AppendUnsigned(nil)) {
				err = errors.New("signed part is not what AppendUnsigned writes")
			}
			return append(m.AppendUnsigned(nil), m.Signature...), err
		}},
		"controlpresence": {append(presence.AppendUnsigned(nil), presence.Signature...), func(b []byte) ([]byte, error) {
			p, signed, err := ParseControlPresence(b)
			if err == nil && !bytes.Equal(signed, p.AppendUnsigned(nil)) {
				err = errors.New("signed part is not what AppendUnsigned writes")
			}
			return append(p.AppendUnsigned(nil), p.Signature...), err
		}},
		"controlindex": {AppendControlIndex(nil, [32]byte(fill(32, 1))), func(b []byte) ([]byte, error) {
			id, err := ParseControlIndex(b)
			return AppendControlIndex(nil, id), err
		}},
		"controlrecord":      {AppendControlRecord(nil, fill(50, 1)), blob(ControlRecord)},
		"controlrevocations": {AppendControlRevocations(nil, fill(50, 1)), blob(ControlRevocations)},
	}
}

// AppendUnsignedIf is AppendUnsigned, or nothing after an error: the ciphertext is missing then.
func (d *ControlDirect) AppendUnsignedIf(err error) []byte {
	if err != nil {
		return nil
	}
	return d.AppendUnsigned(nil)
}

func TestControlGolden(t *testing.T) {
	for name, s := range controlSamples() {
		golden(t, name, s.bytes)
		if again, err := s.parse(s.bytes); err != nil || !bytes.Equal(again, s.bytes) {
			t.Errorf("%s: reading and writing again differs: %v", name, err)
		}
	}
}

// TestControlTruncated: no layout is a prefix of itself, and each begins with its form.
func TestControlTruncated(t *testing.T) {
	for name, s := range controlSamples() {
		open := name == "controldirect" || name == "controldirectbare" || name == "controlbroadcast" ||
			name == "controlrecord" || name == "controlrevocations" || name == "controlheader" // the body's length is what is left
		for n := range s.bytes {
			if _, err := s.parse(s.bytes[:n]); err == nil && !open {
				t.Errorf("%s: the first %d bytes of %d pass", name, n, len(s.bytes))
			}
		}
		if _, err := s.parse(append(bytes.Clone(s.bytes), 0)); err == nil && !open {
			t.Errorf("%s: a byte too many passes", name)
		}
		other := bytes.Clone(s.bytes)
		other[0] ^= 0x40
		if _, err := s.parse(other); err == nil {
			t.Errorf("%s: passes with first byte %#x", name, other[0])
		}
	}
}

func TestControlLimits(t *testing.T) {
	sig := fill(SignatureSize, 1)
	direct := func(change func(*ControlDirect)) error {
		d := sampleControlDirect(0)
		change(d)
		_, _, err := ParseControlDirect(append(d.AppendUnsigned(nil), sig...))
		return err
	}
	for what, c := range map[string]struct {
		err  error
		want error
	}{
		"longest direct": {direct(func(d *ControlDirect) {
			d.Record, d.Box = make([]byte, maxControlRecord), make([]byte, MaxControlBody+SealOverhead)
		}), nil},
		"record too long": {direct(func(d *ControlDirect) { d.Record = make([]byte, maxControlRecord+1) }), ErrLayout},
		"box too long":    {direct(func(d *ControlDirect) { d.Box = make([]byte, MaxControlBody+SealOverhead+1) }), ErrLayout},
		"box too short":   {direct(func(d *ControlDirect) { d.Box = make([]byte, SealOverhead-1) }), ErrShort},
		"box eaten by the record": {func() error {
			b := append(sampleControlDirect(0).AppendUnsigned(nil), sig...)
			b[controlDirectFixed-1] = 30 // the record is to take 30 of the box's 40 bytes
			_, _, err := ParseControlDirect(b)
			return err
		}(), ErrLayout},
		"longest broadcast": {func() error {
			m := ControlBroadcast{Body: make([]byte, MaxControlBody)}
			_, _, err := ParseControlBroadcast(append(m.AppendUnsigned(nil), sig...))
			return err
		}(), nil},
		"broadcast too long": {func() error {
			m := ControlBroadcast{Body: make([]byte, MaxControlBody+1)}
			_, _, err := ParseControlBroadcast(append(m.AppendUnsigned(nil), sig...))
			return err
		}(), ErrTooLong},
		"message too long": {func() error {
			_, _, err := ParseControlHeader(make([]byte, MaxControl+1))
			return err
		}(), ErrTooLong},
		"message of the longest direct": {func() error {
			var h ControlHeader
			_, _, err := ParseControlHeader(append(h.Append(nil), make([]byte, MaxControl-ControlHeaderSize)...))
			return err
		}(), nil},
		"version": {func() error {
			_, _, err := ParseControlHeader(make([]byte, 100))
			return err
		}(), ErrVersion},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", what, c.err, c.want)
		}
	}
}

// TestControlWindows: appending to a part of what was parsed does not touch the next part.
func TestControlWindows(t *testing.T) {
	b := append(sampleControlDirect(20).AppendUnsigned(nil), fill(SignatureSize, 8)...)
	before := bytes.Clone(b)
	d, signed, err := ParseControlDirect(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{d.Ciphertext, d.Record, d.Box, d.Signature, signed} {
		_ = append(part, 0xee)
	}
	if !bytes.Equal(b, before) {
		t.Error("a part can grow into the next")
	}
}

func fuzzControl(f *testing.F, name string) {
	s := controlSamples()[name]
	f.Add(s.bytes)
	f.Add(s.bytes[:len(s.bytes)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := s.parse(bytes.Clone(b))
		if err == nil && !bytes.Equal(again, b) {
			t.Errorf("%d bytes pass and are written as other %d", len(b), len(again))
		}
	})
}

func FuzzControlHeader(f *testing.F)    { fuzzControl(f, "controlheader") }
func FuzzControlDirect(f *testing.F)    { fuzzControl(f, "controldirect") }
func FuzzControlBroadcast(f *testing.F) { fuzzControl(f, "controlbroadcast") }
func FuzzControlPresence(f *testing.F)  { fuzzControl(f, "controlpresence") }
func FuzzControlIndex(f *testing.F)     { fuzzControl(f, "controlindex") }
func FuzzControlRecord(f *testing.F)    { fuzzControl(f, "controlrecord") }
