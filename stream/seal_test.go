package stream

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// Each direction counts its messages from 0, whatever their kind.
func TestSealNumbers(t *testing.T) {
	e := newEnds(t)
	for want := range uint64(20) {
		var m *buffer.Buf
		var n uint64
		var err error
		switch want % 3 {
		case 0:
			m, n, err = e.data.Seal(batchOf(t, []byte{1}), 0, epoch0)
		case 1:
			m, n, err = e.data.SealProbe(0, nil, epoch0)
		case 2:
			m, n, err = e.data.SealSignal([]byte("offer"), 0, epoch0)
		}
		if err != nil || n != want || e.data.Next() != want+1 {
			t.Fatalf("message %d: number %d, next %d, %v", want, n, e.data.Next(), err)
		}
		env, err := wire.ParseEnvelope(m.Bytes())
		if err != nil || env.Number != want || env.Stream != e.data.ID() || env.HopLimit != 15 {
			t.Errorf("message %d: envelope %+v, %v", want, env, err)
		}
		m.Release()
	}
	m, n, err := e.ack.SealAck(new(wire.AckBody), epoch0)
	if err != nil || n != 0 {
		t.Fatalf("first acknowledgement: number %d, %v", n, err)
	}
	m.Release()
}

// After its close, or a failure that left a number unused, a Sealer seals nothing.
func TestSealerEnds(t *testing.T) {
	e := newEnds(t)
	bytesOf(must(e.data.Seal(batchOf(t, []byte{1}), 0, epoch0)))
	m, n, err := e.data.SealClose(0, epoch0)
	if err != nil || n != 1 {
		t.Fatalf("close: number %d, %v", n, err)
	}
	m.Release()
	_, _, err = e.data.Seal(batchOf(t, []byte{1}), 0, epoch0)
	wantError(t, "data after the close", err, ErrEnded)
	_, _, err = e.data.SealClose(0, epoch0)
	wantError(t, "second close", err, ErrEnded)
	if e.data.Next() != 2 {
		t.Errorf("Next %d, want 2", e.data.Next())
	}

	e = newEnds(t)
	fault := errors.New("no key")
	e.data.signer = NewSigner(func([]byte) ([]byte, error) { return nil, fault })
	_, _, err = e.data.Seal(batchOf(t, []byte{1}), 0, epoch0)
	wantError(t, "signer's failure", err, fault)
	wantError(t, "signer's failure", err, ErrEnded)
	_, _, err = e.data.SealProbe(0, nil, epoch0)
	wantError(t, "probe after a failure", err, ErrEnded)
}

func must(m *buffer.Buf, _ uint64, err error) *buffer.Buf {
	if err != nil {
		panic(err)
	}
	return m
}

func TestSealHardLimits(t *testing.T) {
	e := newEnds(t)
	m, _, err := e.data.Seal(batchOf(t, []byte{1}), 0, epoch0.Add(HardAge-1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.openData.Open(m, epoch0.Add(HardAge+lateAge-1)); err != nil {
		t.Errorf("opened late: %v", err)
	}
	m.Release()
	_, _, err = e.data.Seal(batchOf(t, []byte{1}), 0, epoch0.Add(HardAge))
	wantError(t, "data at 180 s", err, ErrLimit)
	_, _, err = e.data.SealClose(0, epoch0.Add(HardAge))
	wantError(t, "close at 180 s", err, ErrLimit)
	m, _, err = e.ack.SealAck(new(wire.AckBody), epoch0.Add(HardAge))
	if err != nil {
		t.Errorf("acknowledgement at 180 s: %v", err)
	}
	m.Release()
	_, _, err = e.ack.SealAck(new(wire.AckBody), epoch0.Add(HardAge+lateAge))
	wantError(t, "acknowledgement at 195 s", err, ErrLimit)

	e.data.counter.Store(HardMessages - 1)
	m, _, err = e.data.Seal(batchOf(t, []byte{1}), HardMessages-1, epoch0)
	if err != nil {
		t.Errorf("the last number: %v", err)
	}
	if _, err := e.openData.Open(m, epoch0); err != nil {
		t.Errorf("the last number, opened: %v", err)
	}
	m.Release()
	_, _, err = e.data.Seal(batchOf(t, []byte{1}), HardMessages-1, epoch0)
	wantError(t, "a number too many", err, ErrLimit)
	beyond := bufOf(e.data.resealed(wire.KindProbe, HardMessages, append(u64(HardMessages), 0, 0)))
	defer beyond.Release()
	_, err = e.openData.OpenControl(beyond, epoch0)
	wantError(t, "a number too many, opened", err, ErrLimit)
	old := bufOf(newEnds(t).sealData(t, 0, []byte{1}))
	defer old.Release()
	_, err = e.openData.Open(old, epoch0.Add(HardAge+lateAge))
	wantError(t, "opened at 195 s", err, ErrLimit)
}

// A number is taken only within the window, and a refusal takes none.
func TestSealWindow(t *testing.T) {
	e := newEnds(t)
	e.data.counter.Store(Window)
	_, _, err := e.data.Seal(batchOf(t, []byte{1}), 0, epoch0)
	wantError(t, "Window above the floor", err, ErrWindow)
	_, _, err = e.data.SealProbe(Window+1, nil, epoch0)
	wantError(t, "floor above the number", err, ErrWindow)
	if e.data.Next() != Window {
		t.Errorf("Next %d after refusals", e.data.Next())
	}
	m, n, err := e.data.Seal(batchOf(t, []byte{1}), 1, epoch0)
	if err != nil || n != Window {
		t.Fatalf("number %d, %v", n, err)
	}
	m.Release()
}

func TestSealRefusesWhatItsDirectionHasNot(t *testing.T) {
	e := newEnds(t)
	_, _, err := e.ack.Seal(batchOf(t, []byte{1}), 0, epoch0)
	wantError(t, "data from the responder", err, ErrKind)
	_, _, err = e.ack.SealSignal([]byte{1}, 0, epoch0)
	wantError(t, "signal from the responder", err, ErrKind)
	_, _, err = e.data.SealAck(new(wire.AckBody), epoch0)
	wantError(t, "acknowledgement from the initiator", err, ErrKind)
	_, _, err = e.data.Seal(NewBatch(0), 0, epoch0)
	wantError(t, "empty batch", err, ErrEmpty)
	_, _, err = e.data.SealSignal(nil, 0, epoch0)
	wantError(t, "empty signal", err, ErrMalformed)
	_, _, err = e.data.SealSignal(make([]byte, MaxSignal+1), 0, epoch0)
	wantError(t, "signal too long", err, ErrMalformed)
	_, _, err = e.data.SealProbe(0, make([]byte, wire.MaxProbeRecord+1), epoch0)
	wantError(t, "probe too long", err, ErrMalformed)
	if e.data.Next() != 0 || e.ack.Next() != 0 {
		t.Error("refusals take numbers")
	}
	m, _, err := e.data.SealSignal(make([]byte, MaxSignal), 0, epoch0)
	if err != nil || m.Len() != wire.MaxMessage {
		t.Fatalf("longest signal: %v", err)
	}
	m.Release()
}

// Sealing in parallel gives each number, and so each nonce, once, and all messages open.
func TestSealParallel(t *testing.T) {
	const workers, each = 8, 200
	e := newEnds(t)
	e.data.signer = NewSigner(fakeSign)
	e.openData.verify = fakeVerify
	var mu sync.Mutex
	numbers := map[uint64]bool{}
	nonces := map[string]bool{}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				var m *buffer.Buf
				var n uint64
				var err error
				if w%4 == 0 {
					m, n, err = e.data.SealProbe(0, nil, epoch0)
				} else {
					m, n, err = e.data.Seal(batchOf(t, pattern(50, byte(w))), 0, epoch0)
				}
				if err != nil {
					t.Error(err)
					return
				}
				env, _ := wire.ParseEnvelope(m.Bytes())
				var sc scratch
				nonce := string(e.data.nonceFor(&sc, n))
				mu.Lock()
				if numbers[n] || nonces[nonce] || env.Number != n {
					t.Errorf("number %d twice, or another in the envelope", n)
				}
				numbers[n], nonces[nonce] = true, true
				mu.Unlock()
				if w%4 == 0 {
					_, err = e.openData.OpenControl(m, epoch0)
				} else {
					_, err = e.openData.Open(m, epoch0)
				}
				if err != nil {
					t.Errorf("message %d: %v", n, err)
				}
				m.Release()
			}
		})
	}
	wg.Wait()
	if len(numbers) != workers*each || e.data.Next() != workers*each {
		t.Errorf("%d numbers, next %d", len(numbers), e.data.Next())
	}
}

// A batch's age stays with its message.
func TestSealKeepsBorn(t *testing.T) {
	e := newEnds(t)
	b := batchOf(t, []byte{1})
	b.SetBorn(epoch0.Add(-time.Second))
	m, _, err := e.data.Seal(b, 0, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	if !m.Born.Equal(epoch0.Add(-time.Second)) {
		t.Errorf("Born %v", m.Born)
	}
}
