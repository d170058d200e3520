package control

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// The topics of this package itself. All are messages to one anchor.
const (
	topicChallenge  Topic = 0x01 // 32 random bytes: are you there?
	topicAnswer     Topic = 0x02 // the same bytes
	topicCorrection Topic = 0x03 // the session nonce that a message bore: my record is this one
)

const (
	// attachAlways is how many messages in a row carry the sender's record until the receiver is known
	// to have it; then one in attachEvery does.
	attachAlways = 3
	attachEvery  = 250 * time.Millisecond
)

var errSelf = errors.New("an anchor sends itself no messages")

// pair is what messages from this session to one session of another anchor are sealed with. One
// encapsulation serves them all; its ciphertext rides in each, so that the loss of one costs no other.
type pair struct {
	session    identity.Nonce
	tag        identity.Tag
	ciphertext []byte
	aead       cipher.AEAD

	// Under the peer table's lock:
	own       *identity.Record // the own record that the rest is about
	confirmed bool             // the receiver has sent something to this session, so it has the record
	attached  int
	last      time.Time // when the record was carried last
}

// Send implements Channel.
func (c *channel) Send(ctx context.Context, to identity.ID, topic Topic, body []byte) error {
	if err := c.send(ctx, to, topic, body); err != nil {
		return fmt.Errorf("control: send to %s: %w", to.Short(), err)
	}
	return nil
}

func (c *channel) send(ctx context.Context, to identity.ID, topic Topic, body []byte) error {
	l, err := c.connected()
	switch {
	case err != nil:
		return err
	case to == c.id:
		return errSelf
	case len(body) > c.MaxBody():
		return fmt.Errorf("%d bytes, at most %d: %w", len(body), c.MaxBody(), ErrTooLarge)
	}
	r, err := c.Lookup(ctx, Key{ID: to}, false)
	if err != nil {
		return err
	}
	p, err := c.pairFor(r)
	if err != nil {
		return err
	}
	k := c.keysFor(to)
	attach := c.peers.attach(p, c.sess.Record()) && wire.ControlDirectOverhead+len(body)+len(c.sess.Record().Raw) <= l.MaxPayload()
	return c.sendDirect(ctx, l, k, r, p, topic, body, attach)
}

// pairFor returns the pair for a record's session and current epoch.
func (c *channel) pairFor(r *identity.Record) (*pair, error) {
	if p := c.peers.pair(r); p != nil {
		return p, nil
	}
	p, err := c.newPair(r)
	if err != nil {
		return nil, err
	}
	return c.peers.setPair(r, p), nil
}

func (c *channel) newPair(r *identity.Record) (*pair, error) {
	ct, shared, err := identity.Encapsulate(r.Current.KEM)
	if err != nil {
		return nil, err
	}
	d := wire.ControlDirect{Sender: c.id, Receiver: r.ID(), ReceiverSession: r.Session, Ciphertext: ct}
	aead, err := pairAEAD(shared, c.sess.Nonce(), &d)
	if err != nil {
		return nil, err
	}
	return &pair{session: r.Session, tag: r.Current.Tag, ciphertext: ct, aead: aead}, nil
}

// keysFor returns the generation to write to an anchor in: the one it used last, if it still serves.
func (c *channel) keysFor(to identity.ID) *realmKeys {
	ring := c.keys.Load()
	if g, ok := c.peers.generation(to); ok && c.verifier.AcceptsGeneration(g) {
		if k := ring.generation(g); k != nil {
			return k
		}
	}
	return ring.current
}

// sendInternal sends a message of this package to the session of a record that need not be admitted.
func (c *channel) sendInternal(ctx context.Context, l *link, r *identity.Record, topic Topic, body []byte) error {
	p, err := c.newPair(r)
	if err != nil {
		return err
	}
	return c.sendDirect(ctx, l, c.keysFor(r.ID()), r, p, topic, body, true)
}

// sendDirect seals a body to a session, signs and seals the message, and publishes it.
func (c *channel) sendDirect(ctx context.Context, l *link, k *realmKeys, r *identity.Record, p *pair, topic Topic, body []byte, attach bool) error {
	h, header := c.header(k)
	d := wire.ControlDirect{
		Topic: uint8(topic), Sender: c.id, Receiver: r.ID(), ReceiverSession: r.Session,
		Tag: p.tag, Ciphertext: p.ciphertext,
		Box: p.aead.Seal(nil, counterNonce(h.Counter), body, header),
	}
	if attach {
		d.Record = c.sess.Record().Raw
	}
	return c.signAndPublish(ctx, l, k, k.toSubject(r.ID()), h, header, d.AppendUnsigned(nil))
}

// Broadcast implements Channel.
func (c *channel) Broadcast(ctx context.Context, topic Topic, body []byte) error {
	l, err := c.connected()
	if err == nil && len(body) > c.MaxBody() {
		err = fmt.Errorf("%d bytes, at most %d: %w", len(body), c.MaxBody(), ErrTooLarge)
	}
	keys := []*realmKeys{c.keys.Load().current}
	if topic == TopicRevocation {
		keys = c.generations() // for those, too, who have not got the secret that it announces
	}
	for _, k := range keys {
		if err != nil {
			break
		}
		h, header := c.header(k)
		m := wire.ControlBroadcast{Topic: uint8(topic), Sender: c.id, Body: body}
		err = c.signAndPublish(ctx, l, k, k.hintSubject(c.id), h, header, m.AppendUnsigned(nil))
	}
	if err != nil {
		return fmt.Errorf("control: broadcast: %w", err)
	}
	return nil
}

func (c *channel) signAndPublish(ctx context.Context, l *link, k *realmKeys, subject string, h wire.ControlHeader, header, unsigned []byte) error {
	sig, err := c.sess.Identity().Sign(identity.ContextControl, signedText(c.own.Realm, header, unsigned))
	if err != nil {
		return err
	}
	msg, err := c.seal(k, header, append(unsigned, sig...), h.Counter, "")
	if err != nil {
		return err
	}
	if err := l.Publish(ctx, subject, msg); err != nil {
		return c.failed(ctx, err)
	}
	c.count.Out.Inc()
	return nil
}
