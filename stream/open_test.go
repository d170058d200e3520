package stream

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/veil-net/anchor/internal/wire"
)

// A message opens in place, whatever a relay did to hop limit and flags.
func TestOpenInPlace(t *testing.T) {
	e := newEnds(t)
	m := bufOf(e.sealData(t, 0, pattern(700, 1), pattern(60, 2)))
	defer m.Release()
	m.Bytes()[2], m.Bytes()[3] = 3, wire.FlagDetour|wire.FlagProbe
	size := m.Len()
	d, err := e.openData.Open(m, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	if m.Len() != size || m.Bytes()[2] != 3 || m.Bytes()[3] != wire.FlagDetour|wire.FlagProbe {
		t.Error("the message's size, hop limit or flags changed")
	}
	at := wire.EnvelopeSize + wire.DataHeaderSize(2)
	if &d.Body.Packet(0)[0] != &m.Bytes()[at] || !bytes.Equal(d.Body.Packet(1), pattern(60, 2)) {
		t.Error("packets are no windows of the message")
	}
}

func TestOpenReplays(t *testing.T) {
	e := newEnds(t)
	first := e.sealData(t, 0, []byte{1})
	lost := e.sealData(t, 0, []byte{2})
	if _, _, err := e.open(first); err != nil {
		t.Fatal(err)
	}
	_, _, err := e.open(first)
	wantError(t, "second time", err, ErrDuplicate)
	if _, _, err := e.open(e.sealData(t, 2, []byte{3})); err != nil {
		t.Fatal(err)
	}
	_, _, err = e.open(lost)
	wantError(t, "given up", err, ErrReplayed)
	_, _, err = e.open(first)
	wantError(t, "once more, below the floor", err, ErrDuplicate)
}

// A message that fails to open does not use up its number.
func TestOpenFailureMarksNothing(t *testing.T) {
	e := newEnds(t)
	m := e.sealData(t, 0, pattern(100, 1))
	for _, at := range []int{wire.EnvelopeSize, len(m) - 1} {
		bad := bytes.Clone(m)
		bad[at] ^= 0x80
		_, _, err := e.open(bad)
		wantError(t, "changed", err, ErrSeal)
	}
	if _, _, err := e.open(m); err != nil {
		t.Errorf("after failures: %v", err)
	}
}

// What the sealing peer itself gets wrong is told apart.
func TestOpenRefusesWhatThePeerMayNotSeal(t *testing.T) {
	e := newEnds(t)
	signed := func(number, floor uint64) []byte {
		body := make([]byte, wire.DataHeaderSize(1), 4000)
		wire.PutDataHeader(body, floor, []uint16{3})
		body = append(body, 1, 2, 3)
		sc := e.data.scratch.Get().(*scratch)
		leafOf(sc, number, body)
		body, err := e.data.signer.Sign(sc.leaf, body)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	data := func(number uint64, body []byte) error {
		_, _, err := e.open(e.data.resealed(wire.KindData, number, body))
		return err
	}
	control := func(o *Opener, s *Sealer, kind wire.Kind, number uint64, body []byte) error {
		m := bufOf(s.resealed(kind, number, body))
		defer m.Release()
		_, err := o.OpenControl(m, epoch0)
		return err
	}
	good := signed(5, 0)
	wrong := bytes.Clone(good)
	wrong[wire.DataHeaderSize(1)] ^= 1
	wantError(t, "packet unsigned", data(5, wrong), ErrSignature)
	wrong = bytes.Clone(good)
	wrong[len(wrong)-1] ^= 1
	wantError(t, "corrupt signature", data(5, wrong), ErrSignature)
	wantError(t, "signed for another number", data(6, good), ErrSignature)
	wantError(t, "floor above the number", data(5, signed(5, 6)), ErrMalformed)
	wantError(t, "floor too low", data(Window, signed(Window, 0)), ErrMalformed)
	wantError(t, "bytes behind", data(5, append(bytes.Clone(good), 0)), ErrMalformed)
	wantError(t, "no body", data(5, nil), ErrMalformed)
	if err := data(5, good); err != nil {
		t.Errorf("unchanged: %v", err)
	}

	wantError(t, "close above its number", control(e.openData, e.data, wire.KindClose, 7, u64(8)), ErrMalformed)
	wantError(t, "short close", control(e.openData, e.data, wire.KindClose, 7, nil), ErrMalformed)
	wantError(t, "probe with a floor above its number", control(e.openData, e.data, wire.KindProbe, 7, append(u64(8), 0, 0)), ErrMalformed)
	wantError(t, "short probe", control(e.openData, e.data, wire.KindProbe, 7, u64(1)), ErrMalformed)
	wantError(t, "empty signal", control(e.openData, e.data, wire.KindSignal, 7, nil), ErrMalformed)
	wantError(t, "responder's probe with a floor", control(e.openAck, e.ack, wire.KindProbe, 7, append(u64(1), 0, 0)), ErrMalformed)
	wantError(t, "responder's signal", control(e.openAck, e.ack, wire.KindSignal, 7, []byte{1}), ErrKind)
	wantError(t, "data asked for as control", control(e.openData, e.data, wire.KindData, 8, signed(8, 8)), ErrKind)

	ack := bufOf(e.ack.resealed(wire.KindAck, 0, []byte{1}))
	defer ack.Release()
	var a wire.AckBody
	_, err := e.openAck.OpenAck(ack, &a, epoch0)
	wantError(t, "short acknowledgement", err, ErrMalformed)
	_, err = e.openAck.Open(ack, epoch0)
	wantError(t, "acknowledgement asked for as data", err, ErrKind)
	strange := bufOf(e.data.resealed(wire.KindAck, 9, new(wire.AckBody).Append(nil)))
	defer strange.Release()
	_, err = e.openData.OpenAck(strange, &a, epoch0)
	wantError(t, "acknowledgement from the initiator", err, ErrKind)
	_, err = e.openAck.OpenControl(strange, epoch0)
	wantError(t, "message of the other direction", err, ErrKind)
}

func TestOpenRefusesEnvelopes(t *testing.T) {
	e := newEnds(t)
	m := e.sealData(t, 0, []byte{1})
	for name, tc := range map[string]struct {
		change func(m []byte) []byte
		want   []error
	}{
		"short":             {func(m []byte) []byte { return m[:40] }, []error{ErrMalformed, wire.ErrShort}},
		"envelope only":     {func(m []byte) []byte { return m[:wire.EnvelopeSize] }, []error{ErrSeal}},
		"version":           {func(m []byte) []byte { m[0] = 9; return m }, []error{ErrMalformed, wire.ErrVersion}},
		"another stream":    {func(m []byte) []byte { m[20] ^= 1; return m }, []error{ErrStreamID}},
		"another tag":       {func(m []byte) []byte { m[4] ^= 1; return m }, []error{ErrSeal}},
		"another number":    {func(m []byte) []byte { m[43] ^= 1; return m }, []error{ErrSeal}},
		"an open":           {func(m []byte) []byte { m[1] = byte(wire.KindOpen); return m }, []error{ErrKind}},
		"cut":               {func(m []byte) []byte { return m[:len(m)-1] }, []error{ErrSeal}},
		"with a byte added": {func(m []byte) []byte { return append(m, 0) }, []error{ErrSeal}},
	} {
		_, _, err := e.open(tc.change(bytes.Clone(m)))
		for _, want := range tc.want {
			wantError(t, name, err, want)
		}
	}
}

// A probe carries floor and record, a signal its body, and the responder has probes and a
// close of its own.
func TestOpenControl(t *testing.T) {
	e := newEnds(t)
	e.data.counter.Store(9)
	m := must(e.data.SealProbe(7, []byte("record"), epoch0))
	c, err := e.openData.OpenControl(m, epoch0)
	if err != nil || c.Kind != wire.KindProbe || c.Number != 9 || c.Floor != 7 || string(c.Record) != "record" {
		t.Errorf("probe: %+v, %v", c, err)
	}
	m.Release()
	m = must(e.data.SealSignal([]byte("offer"), 7, epoch0))
	if c, err = e.openData.OpenControl(m, epoch0); err != nil || c.Kind != wire.KindSignal || string(c.Signal) != "offer" {
		t.Errorf("signal: %+v, %v", c, err)
	}
	m.Release()
	m = must(e.ack.SealProbe(0, []byte("record"), epoch0))
	if c, err = e.openAck.OpenControl(m, epoch0); err != nil || string(c.Record) != "record" {
		t.Errorf("responder's probe: %+v, %v", c, err)
	}
	m.Release()
	m = must(e.ack.SealClose(0, epoch0))
	if c, err = e.openAck.OpenControl(m, epoch0); err != nil || c.Kind != wire.KindClose || c.Final != 1 {
		t.Errorf("responder's close: %+v, %v", c, err)
	}
	m.Release()
}

// Of copies opened at the same time one is opened, the others are duplicates, and the roots of
// a shared signature are verified once or not much more often.
func TestOpenParallel(t *testing.T) {
	const messages, copies = 100, 4
	e := newEnds(t)
	e.openData.verify = fakeVerify
	sealed := make([][]byte, messages)
	for i := range sealed {
		sealed[i] = e.sealData(t, 0, pattern(300, byte(i)))
	}
	var opened [messages]atomic.Int32
	var duplicates atomic.Int32
	var wg sync.WaitGroup
	for range copies {
		wg.Go(func() {
			for i, m := range sealed {
				switch d, _, err := e.open(m); {
				case err == nil && d.Number == uint64(i):
					opened[i].Add(1)
				case errors.Is(err, ErrDuplicate):
					duplicates.Add(1)
				default:
					t.Errorf("message %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	for i := range opened {
		if n := opened[i].Load(); n != 1 {
			t.Errorf("message %d opened %d times", i, n)
		}
	}
	if n := duplicates.Load(); n != messages*(copies-1) {
		t.Errorf("%d duplicates, want %d", n, messages*(copies-1))
	}
}

// The messages of one signature cost one verification, as long as it is among the last 64.
func TestOpenRemembersRoots(t *testing.T) {
	e := newEnds(t)
	const n = 32
	bodies := make([][]byte, n)
	var tr tree
	sc := e.data.scratch.Get().(*scratch)
	for i := range bodies {
		body := make([]byte, wire.DataHeaderSize(1))
		wire.PutDataHeader(body, 0, []uint16{1})
		bodies[i] = append(body, byte(i))
		leafOf(sc, uint64(i), bodies[i])
		tr.levels[0][i] = sc.leaf
	}
	root := tr.build(n)
	signature, _ := fakeSign(append([]byte{n}, root[:]...))
	seal := func(i int) []byte {
		block := wire.SignatureBlock{N: n, Index: byte(i), Path: tr.appendPath(nil, i), Signature: signature}
		return e.data.resealed(wire.KindData, uint64(i), block.Append(bytes.Clone(bodies[i])))
	}
	for i := range n - 1 {
		if _, _, err := e.open(seal(i)); err != nil {
			t.Fatalf("leaf %d: %v", i, err)
		}
	}
	if e.verified != 1 {
		t.Errorf("%d verifications for one signature", e.verified)
	}
	e.data.counter.Store(n)
	for range 64 {
		if _, _, err := e.open(e.sealData(t, 0, []byte{1})); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := e.open(seal(n - 1)); err != nil {
		t.Fatal(err)
	}
	if e.verified != 1+64+1 {
		t.Errorf("%d verifications, want 66: the cache holds 64 roots", e.verified)
	}
}
