package control

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// indexLimit is how many entries under one index key are looked at.
const indexLimit = 16

// A record stands in the directory under the key of its anchor's id. Under a key for each tag,
// name and address stands that id, sealed: small entries that lead to one large one, so that a record of
// 14 kB is stored once, and a tag of yesterday costs little until it is removed.

// errEntry says that an entry of the directory is not to be believed. It is as good as none.
var errEntry = errors.New("control: entry of the directory is not authentic")

// seal seals plaintext with the session's key: a message, or an entry for a place of the directory.
func (c *channel) seal(k *realmKeys, header, plaintext []byte, counter uint64, place string) ([]byte, error) {
	aead, err := k.aead(c.sess.Nonce())
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(header), len(header)+len(plaintext)+wire.SealOverhead)
	copy(out, header)
	return aead.Seal(out, counterNonce(counter), plaintext, append(header[:len(header):len(header)], place...)), nil
}

// header returns the clear header of the next thing to seal.
func (c *channel) header(k *realmKeys) (h wire.ControlHeader, raw []byte) {
	h = wire.ControlHeader{Generation: k.generation, Session: c.sess.Nonce(), Counter: c.counter.Add(1)}
	return h, h.Append(make([]byte, 0, wire.ControlHeaderSize))
}

// put seals an entry and writes it. Its place is bound to it, so that the Master cannot move it.
func (c *channel) put(ctx context.Context, l *link, k *realmKeys, b Bucket, key, place string, plaintext []byte) error {
	h, raw := c.header(k)
	value, err := c.seal(k, raw, plaintext, h.Counter, string(b)+"/"+place)
	if err != nil {
		return err
	}
	ctx, cancel := kvContext(ctx)
	defer cancel()
	if err := l.Put(ctx, b, key, value); err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// get reads an entry and opens it. It returns ErrNoKey if there is none, and errEntry if it does
// not open.
func (c *channel) get(ctx context.Context, l *link, k *realmKeys, b Bucket, key string) (wire.ControlHeader, []byte, error) {
	limited, cancel := kvContext(ctx)
	defer cancel()
	value, err := l.Get(limited, b, key)
	switch {
	case errors.Is(err, ErrNoKey):
		return wire.ControlHeader{}, nil, err
	case err != nil:
		return wire.ControlHeader{}, nil, c.failed(ctx, err)
	}
	return c.openEntry(k, b, key, value)
}

// openEntry opens the entry for a place.
func (c *channel) openEntry(k *realmKeys, b Bucket, place string, value []byte) (wire.ControlHeader, []byte, error) {
	h, plain, err := openEntry(k, b, place, value)
	if err != nil {
		c.count.entries.Inc()
		return wire.ControlHeader{}, nil, fmt.Errorf("%w: %w", errEntry, err)
	}
	return h, plain, nil
}

func openEntry(k *realmKeys, b Bucket, place string, value []byte) (wire.ControlHeader, []byte, error) {
	h, sealed, err := wire.ParseControlHeader(value)
	if err != nil {
		return h, nil, err
	}
	if h.Generation != k.generation {
		return h, nil, fmt.Errorf("generation %d of the realm secret, want %d", h.Generation, k.generation)
	}
	aead, err := k.aead(h.Session)
	if err != nil {
		return h, nil, err
	}
	aad := append(value[:wire.ControlHeaderSize:wire.ControlHeaderSize], string(b)+"/"+place...)
	plain, err := aead.Open(nil, counterNonce(h.Counter), sealed, aad)
	return h, plain, err
}

// readRecord reads the record that stands under an anchor's id. It returns ErrUnknown if there is none,
// and errEntry if it is not that anchor's.
func (c *channel) readRecord(ctx context.Context, l *link, k *realmKeys, id identity.ID) (*identity.Record, error) {
	_, plain, err := c.get(ctx, l, k, BucketRecords, k.recordKey(id))
	if errors.Is(err, ErrNoKey) {
		return nil, fmt.Errorf("control: %s: %w", id.Short(), ErrUnknown)
	}
	if err != nil {
		return nil, err
	}
	return c.openRecord(plain, id)
}

// openRecord verifies the record in an entry.
func (c *channel) openRecord(plain []byte, id identity.ID) (*identity.Record, error) {
	raw, err := wire.ParseControlBlob(plain, wire.ControlRecord)
	var r *identity.Record
	if err == nil {
		r, err = c.verifier.Record(raw)
	}
	if err == nil && r.ID() != id {
		err = fmt.Errorf("record of %s under the key of %s", r.ID().Short(), id.Short())
	}
	if err != nil {
		c.count.entries.Inc()
		return nil, fmt.Errorf("%w: %w", errEntry, err)
	}
	return r, nil
}

// readIndex reads which anchors stand under an index key. Entries that are not to be believed are
// passed over.
func (c *channel) readIndex(ctx context.Context, l *link, k *realmKeys, prefix string) ([]identity.ID, error) {
	limited, cancel := kvContext(ctx)
	defer cancel()
	values, err := l.List(limited, BucketRecords, prefix, indexLimit)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	var ids []identity.ID
	for _, v := range values {
		_, plain, err := c.openEntry(k, BucketRecords, prefix, v)
		if err != nil {
			continue
		}
		id, err := wire.ParseControlIndex(plain)
		if err != nil {
			c.count.entries.Inc()
			continue
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// parallel calls f for each item at the same time, and returns their errors joined.
func parallel[T any](items []T, f func(T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, v := range items {
		wg.Go(func() { errs[i] = f(v) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
