package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// errKey says that a Key does not have exactly one field set.
var errKey = errors.New("a key has exactly one of id, tag, name and address")

// kind returns what to look for in the index.
func (k Key) kind() (kind byte, value []byte, err error) {
	n := 0
	if !k.ID.IsZero() {
		kind, value = kindID, k.ID[:]
		n++
	}
	if k.Tag != (identity.Tag{}) {
		kind, value = kindTag, k.Tag[:]
		n++
	}
	if k.Name != "" {
		kind, value = kindName, []byte(k.Name)
		n++
	}
	if k.Addr.IsValid() {
		kind, value = kindAddr, addrBytes(k.Addr)
		n++
	}
	if n != 1 {
		return 0, nil, errKey
	}
	return kind, value, nil
}

// String names what is looked for.
func (k Key) String() string {
	switch {
	case !k.ID.IsZero():
		return "anchor " + k.ID.Short()
	case k.Tag != identity.Tag{}:
		return fmt.Sprintf("tag %x", k.Tag[:4])
	case k.Name != "":
		return "name " + k.Name
	}
	return "address " + k.Addr.String()
}

// matches reports whether a record is what a key looks for.
func (k Key) matches(r *identity.Record) bool {
	switch {
	case !k.ID.IsZero():
		return r.ID() == k.ID
	case k.Tag != identity.Tag{}:
		_, ok := r.Epochs(k.Tag)
		return ok
	case k.Name != "":
		return r.Certificate.Name == k.Name
	}
	for _, a := range r.Certificate.Addrs() {
		if a == k.Addr.Unmap() {
			return true
		}
	}
	return false
}

// Cached implements Channel.
func (c *channel) Cached(key Key) (*identity.Record, bool) {
	if own := c.sess.Record(); key.matches(own) {
		return own, true
	}
	r, _ := c.peers.cached(key)
	if r == nil || !key.matches(r) || c.verifier.Check(r.Certificate) != nil {
		return nil, false
	}
	return r, true
}

// Learn implements Channel.
func (c *channel) Learn(r *identity.Record) bool {
	if r.ID() == c.id || c.verifier.Check(r.Certificate) != nil {
		return false
	}
	v, next, begin := c.peers.offer(r)
	if begin {
		c.beginChallenge(next)
	}
	return v == admitted
}

// Lookup implements Channel.
func (c *channel) Lookup(ctx context.Context, key Key, fresh bool) (*identity.Record, error) {
	r, err := c.lookup(ctx, key, fresh)
	if err != nil {
		return nil, fmt.Errorf("control: look up %v: %w", key, err)
	}
	return r, nil
}

func (c *channel) lookup(ctx context.Context, key Key, fresh bool) (*identity.Record, error) {
	if _, _, err := key.kind(); err != nil {
		return nil, err
	}
	if own := c.sess.Record(); key.matches(own) {
		return own, nil
	}
	_, stale := c.peers.cached(key)
	had, serves := c.Cached(key)
	if serves && !fresh && !stale {
		return had, nil
	}
	found, err := c.find(ctx, key)
	switch {
	case err == nil:
		return c.admit(ctx, found, had)
	case serves && (!fresh || errors.Is(err, ErrUnknown)):
		return had, nil // the newest verified record is not worse for what the Master lacks
	}
	return nil, err
}

// admit applies the session rule to a record from the directory. A session that has to answer a
// challenge is waited for; if it does not answer, the record known before serves on.
func (c *channel) admit(ctx context.Context, found, had *identity.Record) (*identity.Record, error) {
	v, next, begin := c.peers.offer(found)
	if begin {
		c.beginChallenge(next)
	}
	if v == admitted {
		return found, nil
	}
	if v == pending {
		select {
		case <-next.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.ctx.Done():
			return nil, context.Cause(c.ctx)
		}
	}
	if r, ok := c.Cached(Key{ID: found.ID()}); ok {
		return r, nil
	}
	if had != nil {
		return had, nil
	}
	return nil, fmt.Errorf("%w: the session in the directory does not answer", ErrNotReady)
}

// find reads the directory, under each generation of the realm secret.
func (c *channel) find(ctx context.Context, key Key) (*identity.Record, error) {
	l, err := c.connected()
	if err != nil {
		return nil, err
	}
	err = ErrUnknown
	for _, k := range c.generations() {
		r, again := c.findIn(ctx, l, k, key)
		if again == nil {
			c.peers.found(r.ID(), k.generation)
			return r, nil
		}
		if !errors.Is(again, ErrUnknown) {
			err = again
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, context.Cause(ctx))
	}
	return nil, err
}

// findIn reads the directory under one generation. Of several verified records in force the one with
// the highest serial wins, then the newest.
func (c *channel) findIn(ctx context.Context, l *link, k *realmKeys, key Key) (*identity.Record, error) {
	kind, value, err := key.kind()
	if err != nil {
		return nil, err
	}
	ids := []identity.ID{key.ID}
	if kind != kindID {
		if ids, err = c.readIndex(ctx, l, k, k.prefix(kind, value)); err != nil {
			return nil, err
		}
	}
	var best *identity.Record
	var notInForce error
	for _, id := range ids {
		r, err := c.readRecord(ctx, l, k, id)
		switch {
		case errors.Is(err, ErrUnknown) || errors.Is(err, errEntry):
			continue
		case err != nil:
			return nil, err
		case !key.matches(r):
			continue
		}
		if err := c.verifier.Check(r.Certificate); err != nil {
			notInForce = err
			continue
		}
		if best == nil || r.Certificate.Serial > best.Certificate.Serial {
			best = r
		}
	}
	switch {
	case best != nil:
		return best, nil
	case notInForce != nil:
		return nil, notInForce
	}
	return nil, ErrUnknown
}

// readAny reads an anchor's record, under each generation of the realm secret.
func (c *channel) readAny(ctx context.Context, l *link, id identity.ID) (*identity.Record, error) {
	err := ErrUnknown
	for _, k := range c.generations() {
		r, again := c.readRecord(ctx, l, k, id)
		if again == nil {
			return r, nil
		}
		err = again
	}
	return nil, err
}

// Present implements Channel.
func (c *channel) Present(ctx context.Context, id identity.ID) (bool, error) {
	ok, err := c.present(ctx, id)
	if err != nil {
		return false, fmt.Errorf("control: presence of %s: %w", id.Short(), err)
	}
	return ok, nil
}

func (c *channel) present(ctx context.Context, id identity.ID) (bool, error) {
	l, err := c.connected()
	if err != nil {
		return false, err
	}
	for _, k := range c.generations() {
		h, plain, err := c.get(ctx, l, k, BucketPresence, k.presenceKey(id))
		switch {
		case errors.Is(err, ErrNoKey) || errors.Is(err, errEntry):
			continue
		case err != nil:
			return false, err
		}
		p, signed, err := wire.ParseControlPresence(plain)
		if err != nil || p.ID != id {
			c.count.entries.Inc()
			continue
		}
		r, err := c.lookup(ctx, Key{ID: id}, false)
		if err == nil && (r.Session != h.Session || r.Counter < p.Counter) {
			r, err = c.lookup(ctx, Key{ID: id}, true)
		}
		switch {
		case errors.Is(err, ErrUnknown):
			continue
		case err != nil:
			return false, err
		}
		text := signedText(c.own.Realm, h.Append(nil), signed)
		if r.Session == h.Session && r.Certificate.Verify(identity.ContextControl, text, p.Signature) {
			return true, nil
		}
		c.count.entries.Inc()
	}
	return false, nil
}
