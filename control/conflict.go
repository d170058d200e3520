package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/veil-net/anchor/identity"
)

// Two sessions of one identity cannot both serve. The record in the directory decides: the
// session whose record was replaced by one that outranks it asks the other for a sign of life, and
// ends if it gets one. If not, the other has died, and its record is replaced in turn.

// ownEntry is what was seen in the directory under this anchor's own id.
type ownEntry struct {
	keys  *realmKeys
	value []byte
}

// ownChallenge is a question to another session of this identity.
type ownChallenge struct {
	session  identity.Nonce
	secret   [32]byte
	once     sync.Once
	answered chan struct{}
}

// watchOwn watches the own record, under each generation of the realm secret.
func (c *channel) watchOwn(ctx context.Context, l *link) error {
	for _, k := range c.generations() {
		if l.watched[k.generation] {
			continue
		}
		limited, cancel := kvContext(ctx)
		err := l.Watch(limited, BucketRecords, k.recordKey(c.id), func(value []byte) {
			l.seen.Store(&ownEntry{k, value})
			wake(l.changed)
		})
		cancel()
		if err != nil {
			return c.failed(ctx, err)
		}
		l.watched[k.generation] = true
	}
	return nil
}

// ownChanged looks at who wrote the own record. If it was not this session, the record is
// announced again, which settles whose it is.
func (c *channel) ownChanged(ctx context.Context, l *link) error {
	e := l.seen.Swap(nil)
	if e == nil {
		return nil
	}
	_, plain, err := c.openEntry(e.keys, BucketRecords, e.keys.recordKey(c.id), e.value)
	if err == nil {
		var r *identity.Record
		if r, err = c.openRecord(plain, c.id); err == nil && r.Session == c.sess.Nonce() && r.Counter >= c.sess.Record().Counter {
			return nil
		}
	}
	c.log.Info("the directory has another record of this anchor than its own", "err", err)
	if !c.repairs.allow() {
		c.pause(retryEvery) // somebody writes it all the time: no race with him
	}
	return c.announce(ctx, l, false)
}

// outlive returns nil if the record of another session of this identity may be replaced. It ends the
// Channel if that session lives and outranks this one. The caller has the turn.
func (c *channel) outlive(ctx context.Context, l *link, other *identity.Record) error {
	if !outranks(other, c.sess.Record()) {
		return nil
	}
	alive, err := c.alive(ctx, l, other)
	if err == nil && alive {
		err = fmt.Errorf("%w (session %x)", ErrIdentityInUse, other.Session[:4])
		c.finish(err)
	}
	return err
}

// outranks orders the records of two sessions, so that of two that find each other at the same time
// one stays.
func outranks(a, b *identity.Record) bool {
	switch {
	case a.NewerThan(b):
		return true
	case b.NewerThan(a):
		return false
	}
	return bytes.Compare(a.Session[:], b.Session[:]) > 0
}

// alive asks another session of this identity for a sign of life, three times in 3 s.
func (c *channel) alive(ctx context.Context, l *link, other *identity.Record) (bool, error) {
	q := &ownChallenge{session: other.Session, answered: make(chan struct{})}
	rand.Read(q.secret[:])
	c.question.Store(q)
	defer c.question.CompareAndSwap(q, nil)
	for range 3 {
		if err := c.sendInternal(ctx, l, other, topicChallenge, q.secret[:]); err != nil {
			return false, err
		}
		t := time.NewTimer(time.Second)
		select {
		case <-q.answered:
		case <-t.C:
		case <-l.Done():
		case <-ctx.Done():
		}
		t.Stop()
		switch {
		case isClosed(q.answered):
			return true, nil
		case isClosed(l.Done()):
			return false, c.failed(ctx, l.Err())
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		}
	}
	return false, nil
}

// processOwn takes a message from another session of this identity.
func (c *channel) processOwn(in *inbound) {
	if in.all || in.direct.ReceiverSession != c.sess.Nonce() {
		return // to everybody else, or to a session that is not this one
	}
	if !c.own.Verify(identity.ContextControl, in.text, in.signature) {
		c.count.forged.Inc()
		return
	}
	body, err := c.openBox(in)
	if err != nil {
		c.count.forged.Inc()
		return
	}
	switch in.topic {
	case topicChallenge:
		r, err := c.carried(in)
		if err == nil && r != nil && c.ownAnswers.allow() {
			c.answer(r, body)
		}
	case topicAnswer:
		q := c.question.Load()
		if q != nil && in.header.Session == q.session && subtle.ConstantTimeCompare(body, q.secret[:]) == 1 {
			q.once.Do(func() { close(q.answered) })
		}
	}
}

// errStale says that a record carried by a message is not of the session that sent it.
var errStale = errors.New("control: message carries a record of another session")

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
