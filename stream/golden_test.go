package stream

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

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
		t.Errorf("%s differs from %s (%d and %d bytes); -update writes it anew", name, path, len(got), len(want))
	}
}

// conversation is a whole stream: every kind of message, and both ends before and after.
type conversation struct {
	realm      *realm
	initiator  *Initiator // has not seen the accept
	alice, bob *Established
	open       []byte
	accept     []byte
	fromAlice  map[string][]byte // sealed by the initiator
	fromBob    map[string][]byte
	openers    map[string]*Opener // by message; nothing has arrived at them
}

// converse holds a conversation that is the same in each run, to the byte: all randomness
// comes from one seed.
func converse(t *testing.T) *conversation {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	r := newRealm(t)
	c := &conversation{realm: r, openers: map[string]*Opener{}}
	i, open, err := NewInitiator(InitiatorConfig{
		Session: r.alice.session, Peer: r.bob.session.Record(), Signer: r.alice.signer(),
		Predecessor: wire.StreamID(pattern(16, 7)),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.initiator, c.open = copyInitiator(i), open
	c.accept, c.bob = r.bob.answer(t, open, 1<<20)
	if c.alice, err = i.Accept(c.accept, epoch0); err != nil {
		t.Fatal(err)
	}
	sealed := func(m *buffer.Buf, _ uint64, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return bytesOf(m)
	}
	a, b := c.alice.Sealer, c.bob.Sealer
	ack := wire.AckBody{Grant: 1 << 20, Cumulative: 1, Delay: 250}
	ack.AddRange(1, 1)
	ack.AddCopy(0, -40)
	c.fromAlice = map[string][]byte{
		"data":   sealed(a.Seal(batchOf(t, pattern(60, 1), pattern(1, 2), pattern(500, 3)), 0, epoch0)),
		"probe":  sealed(a.SealProbe(0, []byte("record"), epoch0)),
		"signal": sealed(a.SealSignal([]byte("offer"), 0, epoch0)),
		"close":  sealed(a.SealClose(0, epoch0)),
	}
	c.fromBob = map[string][]byte{
		"ack":        sealed(b.SealAck(&ack, epoch0)),
		"replyprobe": sealed(b.SealProbe(0, nil, epoch0)),
		"replyclose": sealed(b.SealClose(0, epoch0)),
	}
	return c
}

// copyInitiator returns a handshake in the same state as i.
func copyInitiator(i *Initiator) *Initiator {
	return &Initiator{
		cfg: i.cfg, tag: i.tag, h1: i.h1, id: i.id, reply: i.reply, openHash: i.openHash,
		hopLimit: i.hopLimit, s1: i.s1, ephemeral: i.ephemeral,
	}
}

// copyOpener returns an Opener with o's keys to which nothing has arrived.
func copyOpener(o *Opener) *Opener {
	c := &Opener{initiator: o.initiator, verify: o.verify, start: o.start, age: o.age}
	c.id, c.aead, c.iv, c.scratch.New = o.id, o.aead, o.iv, o.scratch.New
	return c
}

func TestGoldenConversation(t *testing.T) {
	c := converse(t)
	golden(t, "open", c.open)
	golden(t, "accept", c.accept)
	for name, m := range c.fromAlice {
		golden(t, name, m)
	}
	for name, m := range c.fromBob {
		golden(t, name, m)
	}
}

// arrive opens a message as the end that it is for, in the state before it arrived.
func (c *conversation) arrive(name string, m []byte) error {
	switch name {
	case "open":
		h, err := OpenBox1(c.realm.bob.session, m)
		if err != nil {
			return err
		}
		return h.Verify(c.realm.bob.verifier)
	case "accept":
		if c.initiator.ephemeral == nil {
			return ErrAccepted
		}
		before := copyInitiator(c.initiator)
		_, err := c.initiator.Accept(m, epoch0)
		if err == nil {
			c.initiator = before
		}
		return err
	}
	opener := c.openers[name]
	if opener == nil {
		opener = copyOpener(c.bob.Opener)
		if _, ok := c.fromBob[name]; ok {
			opener = copyOpener(c.alice.Opener)
		}
	}
	c.openers[name] = opener
	b := bufOf(m)
	defer b.Release()
	var err error
	switch name {
	case "data":
		_, err = opener.Open(b, epoch0)
	case "ack":
		_, err = opener.OpenAck(b, new(wire.AckBody), epoch0)
	default:
		_, err = opener.OpenControl(b, epoch0)
	}
	if err == nil {
		delete(c.openers, name)
	}
	return err
}
