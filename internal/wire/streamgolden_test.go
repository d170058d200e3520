package wire

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fill returns n bytes that differ from their neighbours and by seed.
func fill(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i)*7
	}
	return b
}

// golden compares got with testdata/name.hex, 32 bytes a line, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	if *update {
		var b strings.Builder
		for rest := got; len(rest) > 0; {
			n := min(len(rest), 32)
			b.WriteString(hex.EncodeToString(rest[:n]) + "\n")
			rest = rest[n:]
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes that differ from the %d of %s at %d", name, len(got), len(want), path, differAt(got, want))
	}
}

func differAt(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func sampleBlock(n, index int) SignatureBlock {
	return SignatureBlock{
		N: byte(n), Index: byte(index),
		Path:      fill(PathLen(n, index)*HashSize, 3),
		Signature: fill(SignatureSize, 5),
	}
}

func sampleData() []byte {
	packets := [][]byte{fill(40, 1), fill(1, 2), fill(300, 3)}
	b := make([]byte, DataHeaderSize(len(packets)))
	PutDataHeader(b, 0x0102030405060708, []uint16{40, 1, 300})
	for _, p := range packets {
		b = append(b, p...)
	}
	block := sampleBlock(7, 6)
	return block.Append(b)
}

func sampleAck() *AckBody {
	a := &AckBody{Grant: 1 << 40, Cumulative: 1000, Delay: 12345}
	a.AddRange(1, 2)
	a.AddRange(3, 1<<31)
	a.AddCopy(999, -1500)
	a.AddCopy(1<<33, 70000)
	return a
}

func TestGoldenLayouts(t *testing.T) {
	envelope := Envelope{
		Kind: KindData, HopLimit: 15, Flags: FlagDetour | FlagProbe,
		Tag: Tag(fill(16, 1)), Stream: StreamID(fill(16, 2)), Number: 0x0102030405060708,
	}
	head := make([]byte, EnvelopeSize)
	envelope.Put(head)
	golden(t, "envelope", head)
	masked := Masked(head)
	golden(t, "masked", masked[:])

	open := OpenBody{Suite: Suite, Ciphertext: fill(CiphertextSize, 1), Box: fill(6000, 2)}
	golden(t, "openbody", open.Append(nil))
	openBox := OpenBox{
		Record: fill(77, 1), Ephemeral: fill(KEMPublicSize, 2),
		Predecessor: StreamID(fill(16, 3)), Signature: fill(SignatureSize, 4),
	}
	golden(t, "openbox", openBox.Append(nil))
	accept := AcceptBody{Nonce: [12]byte(fill(12, 1)), Box: fill(AcceptBoxSize+SealOverhead, 2)}
	golden(t, "acceptbody", accept.Append(nil))
	acceptBox := AcceptBox{Ciphertext: fill(CiphertextSize, 1), Grant: 1 << 20, Signature: fill(SignatureSize, 2)}
	golden(t, "acceptbox", acceptBox.Append(nil))

	golden(t, "data", sampleData())
	block := sampleBlock(32, 19)
	golden(t, "signatureblock", block.Append(nil))
	golden(t, "ack", sampleAck().Append(nil))
	golden(t, "close", CloseBody{Final: 0x1122334455667788}.Append(nil))
	probe := ProbeBody{Floor: 4711, Record: fill(20, 9)}
	golden(t, "probe", probe.Append(nil))
}
