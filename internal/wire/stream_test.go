package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
)

// streamDecoders are all of the stream's, each as a function that encodes again what it read.
var streamDecoders = map[string]func(b []byte) ([]byte, error){
	"openbody": func(b []byte) ([]byte, error) {
		o, err := ParseOpenBody(b)
		if err != nil {
			return nil, err
		}
		return o.Append(nil), nil
	},
	"openbox": func(b []byte) ([]byte, error) {
		o, err := ParseOpenBox(b)
		if err != nil {
			return nil, err
		}
		return o.Append(nil), nil
	},
	"acceptbody": func(b []byte) ([]byte, error) {
		a, err := ParseAcceptBody(b)
		if err != nil {
			return nil, err
		}
		return a.Append(nil), nil
	},
	"acceptbox": func(b []byte) ([]byte, error) {
		a, err := ParseAcceptBox(b)
		if err != nil {
			return nil, err
		}
		return a.Append(nil), nil
	},
	"data": func(b []byte) ([]byte, error) {
		var d DataBody
		if err := d.Parse(b); err != nil {
			return nil, err
		}
		lengths := make([]uint16, d.Count())
		var packets []byte
		for i := range lengths {
			lengths[i] = uint16(len(d.Packet(i)))
			packets = append(packets, d.Packet(i)...)
		}
		if len(packets) != d.Bytes() {
			return nil, errors.New("Bytes is not the sum of the packets")
		}
		out := make([]byte, DataHeaderSize(d.Count()))
		PutDataHeader(out, d.Floor, lengths)
		out = append(out, packets...)
		if !bytes.Equal(out, d.Signed) {
			return nil, errors.New("Signed is not header and packets")
		}
		return d.Block.Append(out), nil
	},
	"signatureblock": func(b []byte) ([]byte, error) {
		s, err := ParseSignatureBlock(b)
		if err != nil {
			return nil, err
		}
		return s.Append(nil), nil
	},
	"ack": func(b []byte) ([]byte, error) {
		var a AckBody
		if err := a.Parse(b); err != nil {
			return nil, err
		}
		return a.Append(nil), nil
	},
	"close": func(b []byte) ([]byte, error) {
		c, err := ParseCloseBody(b)
		if err != nil {
			return nil, err
		}
		return c.Append(nil), nil
	},
	"probe": func(b []byte) ([]byte, error) {
		p, err := ParseProbeBody(b)
		if err != nil {
			return nil, err
		}
		return p.Append(nil), nil
	},
}

func streamSamples() map[string][]byte {
	open := OpenBody{Suite: Suite, Ciphertext: fill(CiphertextSize, 1), Box: fill(4000, 2)}
	openBox := OpenBox{Record: fill(10, 1), Ephemeral: fill(KEMPublicSize, 2), Signature: fill(SignatureSize, 4)}
	accept := AcceptBody{Box: fill(AcceptBoxSize+SealOverhead, 2)}
	acceptBox := AcceptBox{Ciphertext: fill(CiphertextSize, 1), Grant: 7, Signature: fill(SignatureSize, 2)}
	block := sampleBlock(32, 31)
	probe := ProbeBody{Floor: 1, Record: fill(5, 5)}
	return map[string][]byte{
		"openbody": open.Append(nil), "openbox": openBox.Append(nil),
		"acceptbody": accept.Append(nil), "acceptbox": acceptBox.Append(nil),
		"data": sampleData(), "signatureblock": block.Append(nil), "ack": sampleAck().Append(nil),
		"close": CloseBody{Final: 9}.Append(nil), "probe": probe.Append(nil),
	}
}

// Every decoder reads what its encoder wrote, and refuses it shortened anywhere or with a byte
// behind it.
func TestDecodersAreExact(t *testing.T) {
	for name, sample := range streamSamples() {
		decode := streamDecoders[name]
		again, err := decode(sample)
		if err != nil || !bytes.Equal(again, sample) {
			t.Errorf("%s: decoded and encoded again: %v, equal: %v", name, err, bytes.Equal(again, sample))
		}
		shortest := 0
		if name == "openbody" { // its box may have any length from here on
			shortest = openPrefix + openBoxFixed + SealOverhead + 1
		}
		for n := range len(sample) {
			if _, err := decode(sample[:n:n]); (err == nil) != (shortest > 0 && n >= shortest) {
				t.Fatalf("%s: first %d of %d bytes: %v", name, n, len(sample), err)
			}
		}
		if name == "openbody" {
			continue
		}
		if _, err := decode(append(slices.Clip(sample), 0)); !errors.Is(err, ErrLayout) && !errors.Is(err, ErrShort) {
			t.Errorf("%s: with a byte behind: %v", name, err)
		}
	}
}

func TestOpenBodySuite(t *testing.T) {
	b := streamSamples()["openbody"]
	b[0] = 2
	if _, err := ParseOpenBody(b); !errors.Is(err, ErrSuite) {
		t.Errorf("suite 2: %v", err)
	}
}

func TestDataBodyRefuses(t *testing.T) {
	for name, change := range map[string]func(b []byte){
		"no packets":       func(b []byte) { b[8] = 0 },
		"26 packets":       func(b []byte) { b[8] = 26 },
		"an empty packet":  func(b []byte) { b[9], b[10] = 0, 0 },
		"a long packet":    func(b []byte) { b[9] = 0xff },
		"shifted borders":  func(b []byte) { b[10]++ },
		"leaf outside":     func(b []byte) { b[DataHeaderSize(3)+341+1] = 7 },
		"a tree of none":   func(b []byte) { b[DataHeaderSize(3)+341] = 0 },
		"a tree of 33":     func(b []byte) { b[DataHeaderSize(3)+341] = 33 },
		"another path":     func(b []byte) { b[DataHeaderSize(3)+341] = 8 },
		"count one higher": func(b []byte) { b[8]++ },
		"count one lower":  func(b []byte) { b[8]-- },
	} {
		b := sampleData()
		change(b)
		var d DataBody
		if err := d.Parse(b); !errors.Is(err, ErrLayout) && !errors.Is(err, ErrShort) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDataBodyWindows(t *testing.T) {
	b := sampleData()
	var d DataBody
	if err := d.Parse(b); err != nil {
		t.Fatal(err)
	}
	b[DataHeaderSize(3)] = 0xee
	if d.Packet(0)[0] != 0xee {
		t.Error("packet 0 is not a window of the input")
	}
	for i := range d.Count() {
		if p := d.Packet(i); cap(p) != len(p) {
			t.Errorf("packet %d can grow into what follows", i)
		}
	}
	if testing.AllocsPerRun(100, func() {
		if d.Parse(b) != nil || len(d.Packet(2)) != 300 {
			t.Fatal("parse")
		}
	}) != 0 {
		t.Error("Parse allocates")
	}
}

func TestPathLen(t *testing.T) {
	// By the recursive definition of RFC 9162, section 2.1.3.1.
	var steps func(n, m int) int
	steps = func(n, m int) int {
		if n == 1 {
			return 0
		}
		k := 1
		for 2*k < n {
			k *= 2
		}
		if m < k {
			return 1 + steps(k, m)
		}
		return 1 + steps(n-k, m-k)
	}
	longest := 0
	for n := 1; n <= MaxLeaves; n++ {
		for m := range n {
			if got, want := PathLen(n, m), steps(n, m); got != want {
				t.Errorf("leaf %d of %d: %d nodes, want %d", m, n, got, want)
			}
			longest = max(longest, PathLen(n, m))
		}
	}
	if longest != MaxPath {
		t.Errorf("longest path %d, want %d", longest, MaxPath)
	}
}

func TestAckRefuses(t *testing.T) {
	ranges := func(cumulative uint64, pairs ...uint32) []byte {
		b := make([]byte, 20, 200)
		binary.BigEndian.PutUint64(b[8:], cumulative)
		b = append(b, byte(len(pairs)/2))
		for _, p := range pairs {
			b = binary.BigEndian.AppendUint32(b, p)
		}
		return append(b, 0)
	}
	var a AckBody
	if err := a.Parse(ranges(5, 1, 1, 2, 2)); err != nil {
		t.Fatal(err)
	}
	if err := a.Parse(ranges(math.MaxUint64-2, 1, 1)); err != nil {
		t.Errorf("range that ends at the last number: %v", err)
	}
	many := append(make([]byte, 20), 65)
	many = append(many, make([]byte, 65*8+1)...)
	copies := append(make([]byte, 21), 65)
	copies = append(copies, make([]byte, 65*12)...)
	for name, b := range map[string][]byte{
		"a gap of 0":           ranges(5, 0, 1),
		"a length of 0":        ranges(5, 1, 0),
		"a second gap of 0":    ranges(5, 1, 1, 0, 1),
		"numbers past 64 bits": ranges(math.MaxUint64-1, 1, 1),
		"65 ranges":            many,
		"65 copies":            copies,
	} {
		if err := a.Parse(b); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAckFull(t *testing.T) {
	var a AckBody
	for i := range MaxAckRanges {
		if !a.AddRange(1, 1) || !a.AddCopy(uint64(i), int32(-i)) {
			t.Fatal("does not take what the layout allows")
		}
	}
	if a.AddRange(1, 1) || a.AddCopy(1, 1) {
		t.Error("takes more than the layout allows")
	}
	b := a.Append(nil)
	if len(b) != MaxAckBody || len(b) != a.Size() {
		t.Errorf("%d bytes, Size %d, want %d", len(b), a.Size(), MaxAckBody)
	}
	var again AckBody
	if err := again.Parse(b); err != nil || again != a {
		t.Errorf("parsed: %v, equal %v", err, again == a)
	}
	buf := make([]byte, 0, MaxAckBody)
	if testing.AllocsPerRun(100, func() {
		if again.Parse(a.Append(buf)) != nil {
			t.Fatal("parse")
		}
	}) != 0 {
		t.Error("encoding and parsing allocates")
	}
}

func TestAckCovers(t *testing.T) {
	a := AckBody{Cumulative: 10}
	a.AddRange(2, 3) // 12, 13, 14
	a.AddRange(1, 1) // 16
	want := map[uint64]bool{12: true, 13: true, 14: true, 16: true}
	for n := uint64(0); n < 20; n++ {
		if got := a.Covers(n); got != (n < 10 || want[n]) {
			t.Errorf("Covers(%d) = %v", n, got)
		}
	}
	if a.Top() != 17 {
		t.Errorf("Top() = %d, want 17", a.Top())
	}
}
