package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// Announce implements Channel.
func (c *channel) Announce(ctx context.Context) error {
	l, err := c.connected()
	if err == nil {
		err = c.announce(ctx, l, false)
	}
	if err != nil {
		return fmt.Errorf("control: announce: %w", err)
	}
	return nil
}

// announce writes the session's record and what leads to it, and removes what leads to an older
// one. When starting, the record of an earlier session is simply replaced.
func (c *channel) announce(ctx context.Context, l *link, starting bool) error {
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	defer c.passTurn()
	return c.announceInTurn(ctx, l, starting)
}

func (c *channel) announceInTurn(ctx context.Context, l *link, starting bool) error {
	keys := c.generations()
	stale := []*identity.Record{c.replaced}
	for _, k := range keys {
		old, err := c.readRecord(ctx, l, k, c.id)
		switch {
		case errors.Is(err, ErrUnknown) || errors.Is(err, errEntry):
			continue
		case err != nil:
			return err
		case old.Session == c.sess.Nonce():
			continue
		}
		if !starting {
			if err := c.outlive(ctx, l, old); err != nil {
				return err
			}
		}
		if _, err := c.sess.Observe(old); err != nil {
			return err
		}
		stale = append(stale, old)
	}
	r := c.sess.Record()
	if err := c.publish(ctx, l, keys, r); err != nil {
		return err
	}
	l.announced.Store(r)
	c.replaced = r
	if err := c.removeStale(ctx, l, keys, stale, r); err != nil {
		return err
	}
	return c.publishList(ctx, l)
}

// publish writes record, index and presence: the record first, so that nothing leads nowhere.
func (c *channel) publish(ctx context.Context, l *link, keys []*realmKeys, r *identity.Record) error {
	entry := wire.AppendControlRecord(nil, r.Raw)
	index := wire.AppendControlIndex(nil, c.id)
	for _, k := range keys {
		key := k.recordKey(c.id)
		if err := c.put(ctx, l, k, BucketRecords, key, key, entry); err != nil {
			return err
		}
		err := parallel(k.indexKeys(r), func(key string) error {
			prefix, _, _ := strings.Cut(key, ".")
			return c.put(ctx, l, k, BucketRecords, key, prefix, index)
		})
		if err != nil {
			return err
		}
	}
	return c.showPresence(ctx, l)
}

// removeStale removes the index entries of older records that do not serve any more: yesterday's
// tags.
func (c *channel) removeStale(ctx context.Context, l *link, keys []*realmKeys, stale []*identity.Record, r *identity.Record) error {
	var gone []string
	for _, k := range keys {
		now := k.indexKeys(r)
		for _, old := range stale {
			if old == nil || old == r {
				continue
			}
			for _, key := range k.indexKeys(old) {
				if !slices.Contains(now, key) {
					gone = append(gone, key)
				}
			}
		}
	}
	return parallel(gone, func(key string) error {
		ctx, cancel := kvContext(ctx)
		defer cancel()
		if err := l.Delete(ctx, BucketRecords, key); err != nil {
			return c.failed(ctx, err)
		}
		return nil
	})
}

// showPresence writes that this session is there.
func (c *channel) showPresence(ctx context.Context, l *link) error {
	for _, k := range c.generations() {
		h, header := c.header(k)
		p := wire.ControlPresence{ID: c.id, Counter: c.sess.Record().Counter}
		plain := p.AppendUnsigned(nil)
		sig, err := c.sess.Identity().Sign(identity.ContextControl, signedText(c.own.Realm, header, plain))
		if err != nil {
			return err
		}
		key := k.presenceKey(c.id)
		value, err := c.seal(k, header, append(plain, sig...), h.Counter, string(BucketPresence)+"/"+key)
		if err != nil {
			return err
		}
		limited, cancel := kvContext(ctx)
		err = l.Put(limited, BucketPresence, key, value)
		cancel()
		if err != nil {
			return c.failed(ctx, err)
		}
	}
	return nil
}

// Rekey implements Channel.
func (c *channel) Rekey(ctx context.Context, generation uint32, secret [32]byte) error {
	k, err := newRealmKeys(c.own.Realm, generation, secret)
	if err != nil {
		return err
	}
	old := c.keys.Load()
	switch {
	case generation == old.current.generation && secret == old.current.secret:
		return nil
	case generation <= old.current.generation:
		return fmt.Errorf("control: rekey: generation %d of the realm secret does not follow %d", generation, old.current.generation)
	}
	if !c.keys.CompareAndSwap(old, &keyring{current: k, previous: old.current}) {
		return c.Rekey(ctx, generation, secret) // another Rekey came first
	}
	l, err := c.connected()
	if err == nil {
		err = c.takeTurn(ctx)
	}
	if err != nil {
		return fmt.Errorf("control: rekey: %w", err)
	}
	defer c.passTurn()
	if err = c.subscribe(l); err == nil {
		err = c.announceInTurn(ctx, l, false)
	}
	wake(c.again) // the own record has another key to be watched
	if err != nil {
		return fmt.Errorf("control: rekey: %w", err)
	}
	return nil
}
