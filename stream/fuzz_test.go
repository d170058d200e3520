package stream

import (
	"bytes"
	"errors"
	"testing"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// oneOf fails the test unless err is nil or one of these.
func oneOf(t *testing.T, err error, sentinels ...error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return
		}
	}
	t.Fatalf("error without a cause: %v", err)
}

// FuzzOpen feeds messages to the responder as they come from the network.
func FuzzOpen(f *testing.F) {
	r := sharedRealm(f)
	_, open := r.alice.initiate(f, r.bob)
	f.Add(open)
	f.Add(open[:wire.EnvelopeSize])
	short := bytes.Clone(open[:wire.EnvelopeSize+1])
	f.Add(short)
	f.Fuzz(func(t *testing.T, m []byte) {
		before := bytes.Clone(m)
		h, err := OpenBox1(r.bob.session, m)
		oneOf(t, err, ErrMalformed, ErrKind, ErrTag, ErrSeal)
		if !bytes.Equal(m, before) {
			t.Fatal("the message was changed")
		}
		if err == nil {
			oneOf(t, h.Verify(r.bob.verifier), ErrStreamID, ErrSignature, identity.ErrFormat, identity.ErrSignature, identity.ErrForeignRealm)
		}
	})
}

// FuzzOpenSealed seals what comes into the box of an open, as an initiator could.
func FuzzOpenSealed(f *testing.F) {
	r := sharedRealm(f)
	ct, s1, err := identity.Encapsulate(r.bob.session.Record().Current.KEM)
	if err != nil {
		f.Fatal(err)
	}
	head := make([]byte, wire.EnvelopeSize)
	e := wire.Envelope{Kind: wire.KindOpen, Tag: r.bob.session.Record().Current.Tag}
	e.Put(head)
	head = (&wire.OpenBody{Suite: wire.Suite, Ciphertext: ct}).Append(head)
	box := wire.OpenBox{Record: r.alice.session.Record().Raw, Ephemeral: pattern(wire.KEMPublicSize, 1), Signature: pattern(wire.SignatureSize, 2)}
	f.Add(box.Append(nil))
	box.Record = []byte{0x82, 0x40, 0x40}
	f.Add(box.Append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) > wire.MaxMessage-len(head)-wire.SealOverhead {
			return
		}
		m, err := sealBox(bytes.Clone(head), make([]byte, nonceSize), plain, nil, s1, openLabel)
		if err != nil {
			t.Fatal(err)
		}
		h, err := OpenBox1(r.bob.session, m)
		oneOf(t, err, ErrMalformed)
		if err != nil {
			return
		}
		if err = h.Verify(r.bob.verifier); err == nil {
			t.Fatal("verified what nobody signed")
		}
		oneOf(t, err, ErrStreamID, ErrSignature, identity.ErrFormat, identity.ErrSignature, identity.ErrForeignRealm)
	})
}

// FuzzAccept feeds messages to the initiator, as they come and sealed as a responder could.
func FuzzAccept(f *testing.F) {
	r := sharedRealm(f)
	i, open := r.alice.initiate(f, r.bob)
	accept, _ := r.bob.answer(f, open, 1)
	f.Add(accept[:len(accept)-1], false)
	f.Add(accept[:wire.EnvelopeSize], false)
	f.Add((&wire.AcceptBox{Ciphertext: pattern(wire.CiphertextSize, 1), Signature: pattern(wire.SignatureSize, 1)}).Append(nil), true)
	f.Add([]byte{1}, true)
	head := make([]byte, wire.EnvelopeSize)
	e := wire.Envelope{Kind: wire.KindAccept, Tag: i.tag, Stream: i.Reply()}
	e.Put(head)
	head = append(head, make([]byte, wire.AcceptNonceSize)...)
	f.Fuzz(func(t *testing.T, m []byte, seal bool) {
		if seal {
			var err error
			if m, err = sealBox(bytes.Clone(head), make([]byte, nonceSize), m, i.h1[:], i.s1, acceptLabel); err != nil {
				t.Fatal(err)
			}
		}
		_, err := i.Accept(m, epoch0)
		if err == nil && !bytes.Equal(m[3:], accept[3:]) {
			t.Fatal("took an accept that the responder did not sign")
		}
		oneOf(t, err, ErrMalformed, ErrKind, ErrTag, ErrStreamID, ErrSeal, ErrSignature, ErrAccepted)
	})
}

// FuzzData seals what comes as the plaintext of data, as a peer could.
func FuzzData(f *testing.F) {
	e := newEnds(f)
	body := make([]byte, wire.DataHeaderSize(2), 4000)
	wire.PutDataHeader(body, 0, []uint16{3, 1})
	body = append(body, 1, 2, 3, 4)
	sc := e.data.scratch.Get().(*scratch)
	leafOf(sc, 0, body)
	body, err := e.data.signer.Sign(sc.leaf, body)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(0), body)
	f.Add(uint64(1), body)
	f.Add(uint64(Window+3), body[:40])
	f.Fuzz(func(t *testing.T, number uint64, plain []byte) {
		if len(plain) > MaxSignal {
			return
		}
		opener := copyOpener(e.openData)
		m := bufOf(e.data.resealed(wire.KindData, number, plain))
		defer m.Release()
		d, err := opener.Open(m, epoch0)
		oneOf(t, err, ErrMalformed, ErrLimit, ErrSignature)
		if err != nil {
			return
		}
		total := 0
		for i := range d.Body.Count() {
			total += len(d.Body.Packet(i))
		}
		if d.Number != number || d.Floor > number || number-d.Floor >= Window || total != d.Body.Bytes() {
			t.Fatalf("opened %+v", d)
		}
	})
}

// FuzzAck seals what comes as the plaintext of an acknowledgement and lets the sender take it.
func FuzzAck(f *testing.F) {
	e := newEnds(f)
	f.Add(ackOf(3, 5, 7).Append(nil))
	f.Add(ackOf(0).Append(nil))
	f.Add(ackOf(11).Append(nil))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) > MaxSignal {
			return
		}
		s := NewSendState(1000, 0, epoch0)
		sendMany(s, 0, 10, hopA, 0)
		m := bufOf(e.ack.resealed(wire.KindAck, 0, plain))
		defer m.Release()
		var a wire.AckBody
		_, err := copyOpener(e.openAck).OpenAck(m, &a, epoch0)
		oneOf(t, err, ErrMalformed)
		if err != nil {
			return
		}
		acked, err := s.Ack(&a, epoch0, nil)
		oneOf(t, err, ErrMalformed)
		if err != nil && (len(acked) > 0 || s.Outstanding() != 10) {
			t.Fatal("a malformed acknowledgement changed something")
		}
		if s.Outstanding() != 10-len(acked) || s.Floor() > 10 {
			t.Fatalf("%d acknowledged, %d outstanding, floor %d", len(acked), s.Outstanding(), s.Floor())
		}
	})
}

// FuzzControl seals what comes as the plaintext of close, probe or signal of either end.
func FuzzControl(f *testing.F) {
	e := newEnds(f)
	f.Add(byte(wire.KindClose), uint64(9), u64(9), true)
	f.Add(byte(wire.KindClose), uint64(9), u64(10), false)
	f.Add(byte(wire.KindProbe), uint64(9), append(u64(3), 0, 1, 7), true)
	f.Add(byte(wire.KindProbe), uint64(9), append(u64(0), 0, 0), false)
	f.Add(byte(wire.KindSignal), uint64(1), []byte("offer"), true)
	f.Fuzz(func(t *testing.T, kind byte, number uint64, plain []byte, initiator bool) {
		if len(plain) > MaxSignal {
			return
		}
		s, o := e.ack, e.openAck
		if initiator {
			s, o = e.data, e.openData
		}
		m := bufOf(s.resealed(wire.Kind(kind), number, plain))
		defer m.Release()
		c, err := copyOpener(o).OpenControl(m, epoch0)
		oneOf(t, err, ErrMalformed, ErrKind, ErrLimit)
		if err == nil && (c.Number != number || c.Final > number || c.Floor > number || c.Kind == wire.KindSignal && !initiator) {
			t.Fatalf("opened %+v", c)
		}
	})
}

// FuzzMessage feeds messages of an established stream as they come from the network.
func FuzzMessage(f *testing.F) {
	e := newEnds(f)
	f.Add(e.sealData(f, 0, []byte{1, 2, 3}))
	f.Add(bytesOf(must(e.data.SealClose(0, epoch0))))
	f.Add(bytesOf(must(e.ack.SealAck(ackOf(3), epoch0))))
	f.Add(make([]byte, wire.EnvelopeSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > wire.MaxMessage {
			return
		}
		for _, o := range []*Opener{e.openData, e.openAck} {
			for range 2 {
				_, _, err := e.open(b)
				oneOf(t, err, ErrMalformed, ErrKind, ErrStreamID, ErrLimit, ErrReplayed, ErrDuplicate, ErrSeal)
				m := bufOf(b)
				_, err = o.OpenControl(m, epoch0)
				m.Release()
				oneOf(t, err, ErrMalformed, ErrKind, ErrStreamID, ErrLimit, ErrReplayed, ErrDuplicate, ErrSeal)
				m = bufOf(b)
				_, err = o.OpenAck(m, new(wire.AckBody), epoch0)
				m.Release()
				oneOf(t, err, ErrMalformed, ErrKind, ErrStreamID, ErrLimit, ErrReplayed, ErrDuplicate, ErrSeal)
			}
		}
	})
}
