package stream

import (
	"bytes"
	"testing"
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

func TestBatchTakes25Packets(t *testing.T) {
	b := NewBatch(0)
	defer b.Release()
	for i := range wire.MaxPackets {
		if !b.Add(pattern(i+1, byte(i))) {
			t.Fatalf("packet %d does not fit", i)
		}
	}
	if b.Add([]byte{1}) {
		t.Error("takes a 26th packet")
	}
	if b.Count() != wire.MaxPackets || b.Bytes() != 25*26/2 {
		t.Errorf("%d packets, %d bytes", b.Count(), b.Bytes())
	}
	for i := range b.Count() {
		if !bytes.Equal(b.Packet(i), pattern(i+1, byte(i))) {
			t.Errorf("packet %d differs", i)
		}
	}
	if !b.Add(nil) || b.Count() != wire.MaxPackets {
		t.Error("an empty packet is not ignored")
	}
}

// A full batch becomes a message of at most 65,535 bytes under a signature of 32, and one more
// byte would not.
func TestBatchTakesALargestMessage(t *testing.T) {
	b := NewBatch(100)
	if b.Add(make([]byte, MaxPacket+1)) {
		t.Error("takes a packet above MaxPacket")
	}
	if !b.Add(make([]byte, MaxPacket)) {
		t.Fatal("does not take a packet of MaxPacket")
	}
	if b.MaxSize() != wire.MaxMessage {
		t.Errorf("MaxSize %d, want %d", b.MaxSize(), wire.MaxMessage)
	}
	if b.Add([]byte{1}) {
		t.Error("takes a byte too many")
	}
	e := newEnds(t)
	e.data.signer = NewSigner(fakeSign)
	m, _, err := e.data.Seal(b, 0, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	if want := wire.MaxMessage - wire.MaxPath*wire.HashSize; m.Len() != want {
		t.Errorf("message of %d bytes, want %d", m.Len(), want)
	}
}

// A hint that is too small costs a move to the largest buffer, and loses nothing.
func TestBatchGrows(t *testing.T) {
	b := NewBatch(1)
	defer b.Release()
	born := epoch0.Add(-time.Second)
	b.SetBorn(born)
	var want []byte
	for i := range 20 {
		p := pattern(2000, byte(i))
		if !b.Add(p) {
			t.Fatalf("packet %d does not fit", i)
		}
		want = append(want, p...)
	}
	if !bytes.Equal(b.buf.Bytes(), want) {
		t.Error("packets changed on the way")
	}
	if !b.Born().Equal(born) {
		t.Errorf("Born %v, want %v", b.Born(), born)
	}
}

func TestBatchBornIsTheOldest(t *testing.T) {
	b := NewBatch(0)
	defer b.Release()
	if !b.Born().IsZero() {
		t.Error("a new batch has an age")
	}
	for _, d := range []time.Duration{3, 1, 2} {
		b.SetBorn(epoch0.Add(d))
	}
	b.SetBorn(time.Time{})
	if want := epoch0.Add(1); !b.Born().Equal(want) {
		t.Errorf("Born %v, want %v", b.Born(), want)
	}
}
