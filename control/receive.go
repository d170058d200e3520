package control

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
)

// inbound is a message whose outer seal has been opened: a member wrote it.
type inbound struct {
	header    wire.ControlHeader
	clear     []byte // the header's bytes
	sender    identity.ID
	topic     Topic
	all       bool               // to all members
	direct    wire.ControlDirect // if not
	body      []byte             // if all
	text      []byte             // what the signature is over
	signature []byte
	size      int
}

// maxOpeners is how many sessions' ciphers are kept.
const maxOpeners = 1024

// openers keeps the ciphers of sessions that sent something authentic to the realm. It is safe for
// concurrent use.
type openers struct {
	mu    sync.Mutex
	known *lru[openerKey, cipher.AEAD]
}

type openerKey struct {
	generation uint32
	session    identity.Nonce
}

func newOpeners() *openers {
	return &openers{known: newLRU[openerKey, cipher.AEAD](maxOpeners)}
}

// open opens a sealed message. Only a session that a message was opened of is remembered, so
// that who is no member cannot push out those who are.
func (o *openers) open(k *realmKeys, h wire.ControlHeader, sealed, header []byte) ([]byte, error) {
	key := openerKey{h.Generation, h.Session}
	o.mu.Lock()
	aead, ok := o.known.get(key)
	o.mu.Unlock()
	var err error
	if !ok {
		if aead, err = k.aead(h.Session); err != nil {
			return nil, err
		}
	}
	plain, err := aead.Open(sealed[:0], counterNonce(h.Counter), sealed, header)
	if err == nil && !ok {
		o.mu.Lock()
		o.known.put(key, aead)
		o.mu.Unlock()
	}
	return plain, err
}

// generations returns the keys that serve now, the current ones first.
func (c *channel) generations() []*realmKeys {
	ring := c.keys.Load()
	if ring.previous != nil && !c.verifier.AcceptsGeneration(ring.previous.generation) {
		return []*realmKeys{ring.current}
	}
	return ring.all()
}

// receive takes a message from the fabric. It does not wait, and keeps msg.
func (c *channel) receive(msg []byte, all bool) {
	h, sealed, err := wire.ParseControlHeader(msg)
	if err == nil && h.Session == c.sess.Nonce() {
		return // a broadcast of our own
	}
	c.count.In.Inc()
	switch {
	case errors.Is(err, wire.ErrTooLong):
		c.count.oversized.Inc()
		return
	case err != nil:
		c.count.malformed.Inc()
		return
	}
	k := c.keys.Load().generation(h.Generation)
	if k == nil || !c.verifier.AcceptsGeneration(h.Generation) {
		c.count.generation.Inc()
		return
	}
	clear := msg[:wire.ControlHeaderSize:wire.ControlHeaderSize]
	plain, err := c.openers.open(k, h, sealed, clear)
	if err != nil {
		c.count.forged.Inc()
		return
	}
	in, err := c.parse(h, clear, plain, all)
	switch {
	case err != nil:
		c.count.malformed.Inc()
	case !all && in.direct.Receiver != c.id:
		c.count.misdirected.Inc()
	case !c.lanes.put(in):
		c.count.busy.Inc()
	}
}

// parse reads an opened message.
func (c *channel) parse(h wire.ControlHeader, clear, plain []byte, all bool) (*inbound, error) {
	in := &inbound{header: h, clear: clear, all: all, size: len(clear) + len(plain)}
	var signed []byte
	var err error
	if all {
		var m wire.ControlBroadcast
		if m, signed, err = wire.ParseControlBroadcast(plain); err != nil {
			return nil, err
		}
		in.sender, in.topic, in.body, in.signature = m.Sender, Topic(m.Topic), m.Body, m.Signature
	} else {
		if in.direct, signed, err = wire.ParseControlDirect(plain); err != nil {
			return nil, err
		}
		in.sender, in.topic, in.signature = in.direct.Sender, Topic(in.direct.Topic), in.direct.Signature
	}
	internal := in.topic == topicChallenge || in.topic == topicAnswer || in.topic == topicCorrection
	if in.topic < 0x10 && (all || !internal) {
		return nil, fmt.Errorf("topic %d: %w", in.topic, wire.ErrLayout)
	}
	in.text = signedText(c.own.Realm, clear, signed)
	return in, nil
}

// process verifies a message and acts on it. It runs in the sender's lane and may wait for a look-up.
func (c *channel) process(in *inbound) {
	switch {
	case in.all && in.topic == TopicRevocation:
		c.hearList(in.body) // the authority's signature is on it: whoever sent it
		return
	case in.sender == c.id:
		c.processOwn(in)
		return
	}
	r, drop := c.senderRecord(in)
	switch {
	case r == nil:
	case !r.Certificate.Verify(identity.ContextControl, in.text, in.signature):
		drop = c.count.forged
	case c.verifier.Check(r.Certificate) != nil || !c.opt.Allow(c.own, r.Certificate):
		drop = c.count.notMember
	case !in.all && in.direct.ReceiverSession != c.sess.Nonce():
		drop = c.count.wrongSession
		c.correct(r, in)
	case in.topic == topicChallenge:
		c.answerChallenge(r, in)
	case in.topic == topicAnswer:
		c.takeAnswer(r, in)
	default:
		c.admitAndDeliver(r, in)
	}
	if drop != nil {
		drop.Inc()
	}
}

// admitAndDeliver applies the session rule to a verified message.
func (c *channel) admitAndDeliver(r *identity.Record, in *inbound) {
	v, next, begin := c.peers.offer(r)
	switch v {
	case refused:
		c.count.unknownSession.Inc()
		return
	case admitted, outdated:
		if in.topic != topicCorrection { // all that a correction says is the record
			c.deliver(r, in)
		}
		return
	}
	held := in.topic == topicCorrection || c.peers.hold(next, in)
	if begin {
		c.beginChallenge(next)
	}
	if !held {
		c.count.unknownSession.Inc()
	}
}

// deliver hands a message of an admitted session to the handler.
func (c *channel) deliver(r *identity.Record, in *inbound) {
	body := in.body
	if !in.all {
		var err error
		body, err = c.openBox(in)
		switch {
		case errors.Is(err, identity.ErrUnknownTag):
			c.count.unknownEpoch.Inc()
			c.correct(r, in)
			return
		case err != nil:
			c.count.forged.Inc()
			return
		}
	}
	fresh, ok := c.peers.take(in)
	switch {
	case !ok:
		c.count.unknownSession.Inc()
	case !fresh:
		c.count.replayed.Inc()
	default:
		c.handler(Message{
			From: r.Certificate, Session: in.header.Session, Topic: in.topic, Broadcast: in.all, Body: body,
		})
	}
}

// openBox opens what a message to one anchor seals to its epoch key.
func (c *channel) openBox(in *inbound) ([]byte, error) {
	d := &in.direct
	if !c.sess.IsLocal(d.Tag) {
		return nil, identity.ErrUnknownTag // whatever cipher of that epoch is still kept
	}
	h := sha256.New()
	h.Write(in.header.Session[:])
	h.Write(d.Tag[:])
	h.Write(d.Ciphertext)
	key := [32]byte(h.Sum(nil))
	aead, ok := c.peers.opener(in.sender, key)
	if !ok {
		shared, err := c.sess.Decapsulate(d.Tag, d.Ciphertext)
		if err != nil {
			return nil, err
		}
		if aead, err = pairAEAD(shared, in.header.Session, d); err != nil {
			return nil, err
		}
	}
	body, err := aead.Open(nil, counterNonce(in.header.Counter), d.Box, in.clear)
	if err == nil && !ok {
		c.peers.setOpener(in.sender, key, aead)
	}
	return body, err
}

// senderRecord finds the record of the session that sent a message: the one it carries, one known, or one
// in the directory. If there is none it returns the counter to count the message in.
func (c *channel) senderRecord(in *inbound) (*identity.Record, *stats.Counter) {
	if r, err := c.carried(in); err != nil {
		return nil, c.count.forged
	} else if r != nil {
		return r, nil
	}
	if r := c.peers.record(in.sender, in.header.Session); r != nil {
		return r, nil
	}
	if in.all && c.peers.occupied(in.sender, in.header.Session) {
		return nil, c.count.unknownSession // nothing to all is worth a challenge by all
	}
	l, err := c.connected()
	if err != nil || !c.lookups.allow() {
		return nil, c.count.unknownSender
	}
	ctx, cancel := context.WithTimeout(c.ctx, 2*kvLimit)
	defer cancel()
	r, err := c.readAny(ctx, l, in.sender)
	switch {
	case err != nil:
		return nil, c.count.unknownSender
	case r.Session != in.header.Session:
		return nil, c.count.unknownSession
	}
	return r, nil
}

// carried verifies the record that a message carries, if any: of the sender, and of the session
// that sent it.
func (c *channel) carried(in *inbound) (*identity.Record, error) {
	if in.all || len(in.direct.Record) == 0 {
		return nil, nil
	}
	r, err := c.verifier.Record(in.direct.Record)
	if err != nil {
		return nil, err
	}
	if r.ID() != in.sender || r.Session != in.header.Session {
		return nil, errStale
	}
	return r, nil
}
