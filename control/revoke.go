package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// Revoke implements Channel.
func (c *channel) Revoke(ctx context.Context, list *identity.RevocationList) error {
	c.takeList(list)
	l, err := c.connected()
	if err == nil {
		err = c.publishList(ctx, l)
	}
	if err == nil {
		err = c.Broadcast(ctx, TopicRevocation, c.verifier.Current().Raw)
	}
	if err != nil {
		return fmt.Errorf("control: revoke: %w", err)
	}
	return nil
}

// takeList puts a verified list into force if it is newer than the one held.
func (c *channel) takeList(list *identity.RevocationList) {
	if !c.verifier.Apply(list) {
		return
	}
	c.log.Info("revocation list", "number", list.Number, "revoked", len(list.Serials))
	c.peers.dropUnless(func(cert *identity.Certificate) bool { return c.verifier.Check(cert) == nil })
	if _, err := c.sess.SetListNumber(list.Number); err != nil {
		c.log.Warn("cannot state the revocation list's number", "err", err)
	}
	wake(c.again)
	c.opt.OnRevoked()
	c.checkOwn() // last: it may end the Channel
}

// hearList takes a list from a broadcast.
func (c *channel) hearList(raw []byte) {
	list, err := c.verifier.Revocations(raw)
	if err != nil {
		c.count.forged.Inc()
		return
	}
	c.takeList(list)
}

// readList takes the list in the directory, and says whether the own certificate is still in
// force.
func (c *channel) readList(ctx context.Context, l *link) error {
	for _, k := range c.generations() {
		list, err := c.storedList(ctx, l, k)
		if err != nil {
			return err
		}
		if list != nil {
			c.takeList(list)
		}
	}
	return c.checkOwn()
}

// storedList reads the directory's list, nil if there is none to be believed.
func (c *channel) storedList(ctx context.Context, l *link, k *realmKeys) (*identity.RevocationList, error) {
	_, plain, err := c.get(ctx, l, k, BucketRecords, k.revocationsKey(c.own.Realm))
	switch {
	case errors.Is(err, ErrNoKey) || errors.Is(err, errEntry):
		return nil, nil
	case err != nil:
		return nil, err
	}
	raw, err := wire.ParseControlBlob(plain, wire.ControlRevocations)
	var list *identity.RevocationList
	if err == nil {
		list, err = c.verifier.Revocations(raw)
	}
	if err != nil {
		c.count.entries.Inc()
		return nil, nil
	}
	return list, nil
}

// publishList writes the list held to the directory, unless that has it.
func (c *channel) publishList(ctx context.Context, l *link) error {
	list := c.verifier.Current()
	if list == nil {
		return nil
	}
	for _, k := range c.generations() {
		stored, err := c.storedList(ctx, l, k)
		if err != nil {
			return err
		}
		if stored != nil && stored.Number >= list.Number {
			continue
		}
		key := k.revocationsKey(c.own.Realm)
		if err := c.put(ctx, l, k, BucketRecords, key, key, wire.AppendControlRevocations(nil, list.Raw)); err != nil {
			return err
		}
	}
	return nil
}
