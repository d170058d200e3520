package stream

import (
	"testing"
	"time"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// wantNoAllocs fails the test if f allocates.
func wantNoAllocs(t *testing.T, what string, f func()) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	for range 100 {
		f()
	}
	if n := testing.AllocsPerRun(1000, f); n != 0 {
		t.Errorf("%s: %v allocations", what, n)
	}
}

// The steady state allocates nothing of ours: signatures are fakes here, since circl's
// allocate.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	signature, _ := fakeSign(nil)
	packet := pattern(1400, 1)
	e := newEnds(t)
	e.data.signer = NewSigner(func([]byte) ([]byte, error) { return signature, nil })
	e.openData.verify = func(_, _ []byte) bool { return true }
	s, r := NewSendState(1<<60, time.Millisecond, epoch0), NewAckState(GenerousGrant, 1<<60, epoch0)
	acked := make([]Acked, 0, 64)
	var b wire.AckBody
	var failed error
	round := func() {
		batch := NewBatch(0)
		for batch.Add(packet) {
		}
		size := batch.MaxSize()
		if !s.Reserve(size) {
			t.Fatal("no window")
		}
		m, number, err := e.data.Seal(batch, s.Floor(), epoch0)
		if err != nil {
			t.Fatal(err)
		}
		s.Sent(Sent{Number: number, Kind: wire.KindData, Size: m.Len(), Reserved: size, Hop: hopA, At: epoch0, Kept: m.Retain()})
		d, err := e.openData.Open(m, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		r.Arrived(wire.KindData, d.Number, d.Floor, m.Len(), epoch0)
		r.Consumed(m.Len(), epoch0)
		m.Release()
		if number%32 == 31 {
			r.Fill(&b, epoch0)
			var ack *buffer.Buf
			if ack, _, err = e.ack.SealAck(&b, epoch0); err != nil {
				t.Fatal(err)
			}
			if _, failed = e.openAck.OpenAck(ack, &b, epoch0); failed == nil {
				acked, failed = s.Ack(&b, epoch0, acked[:0])
			}
			ack.Release()
			if failed != nil || len(acked) != 32 {
				t.Fatalf("%d acknowledged, %v", len(acked), failed)
			}
			s.Lost(epoch0, nil)
			s.Expire(epoch0)
		}
	}
	wantNoAllocs(t, "seal, open, acknowledge", round)
}

// A duplicate, which a relay can make as many as it likes of, costs no memory.
func TestDuplicateAllocatesNothing(t *testing.T) {
	e := newEnds(t)
	m := bufOf(e.sealData(t, 0, []byte{1}))
	defer m.Release()
	if _, err := e.openData.Open(m, epoch0); err != nil {
		t.Fatal(err)
	}
	wantNoAllocs(t, "duplicate", func() {
		if _, err := e.openData.Open(m, epoch0); err == nil {
			t.Fatal("opened twice")
		}
	})
}
