package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// open finds or makes the buckets.
func (c *natsConn) open(ctx context.Context, f *natsFabric) error {
	js, err := jetstream.New(c.nc)
	if err != nil {
		return err
	}
	c.streams = make(map[Bucket]jetstream.Stream)
	if c.records, err = c.bucket(ctx, js, f, BucketRecords, 0); err != nil {
		return err
	}
	c.alive, err = c.bucket(ctx, js, f, BucketPresence, PresenceTTL)
	return err
}

// bucket finds or makes one bucket. It never changes the settings of one that exists.
func (c *natsConn) bucket(ctx context.Context, js jetstream.JetStream, f *natsFabric, b Bucket, ttl time.Duration) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, string(b))
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = makeBucket(ctx, js, jetstream.KeyValueConfig{
			Bucket: string(b), History: 1, TTL: ttl, Storage: f.storage, Replicas: f.replicas,
			Description: "anchor overlay network",
		})
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", b, explainJetStream(err))
	}
	stream, err := js.Stream(ctx, "KV_"+string(b))
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", b, explainJetStream(err))
	}
	info := stream.CachedInfo()
	if s := info.Config; s.MaxAge != ttl || s.MaxMsgs > 0 || s.MaxMsgsPerSubject != 1 {
		return nil, fmt.Errorf("%w: bucket %s exists with other settings: entries last %v, want %v; at most %d in all, want no limit; history of %d, want 1",
			ErrConfig, b, s.MaxAge, ttl, s.MaxMsgs, s.MaxMsgsPerSubject)
	}
	c.streams[b] = stream
	if b == BucketRecords && info.State.Msgs > 0 {
		now := info.TimeStamp // the server's clock; version 2.9 does not tell
		if now.IsZero() {
			now = time.Now()
		}
		c.age = max(now.Sub(info.Created), 1)
	}
	return kv, nil
}

// makeBucket creates a bucket, in memory if the server refuses files. Another member may make it at
// the same time: then theirs is used.
func makeBucket(ctx context.Context, js jetstream.JetStream, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := js.CreateKeyValue(ctx, cfg)
	if err == nil {
		return kv, nil
	}
	if errors.Is(err, jetstream.ErrBucketExists) {
		return js.KeyValue(ctx, cfg.Bucket)
	}
	var api *jetstream.APIError
	if cfg.Storage == jetstream.FileStorage && errors.As(err, &api) {
		cfg.Storage = jetstream.MemoryStorage
		if kv, again := js.CreateKeyValue(ctx, cfg); again == nil {
			return kv, nil
		}
	}
	return nil, err
}

// explainJetStream says what is missing on a server without JetStream.
func explainJetStream(err error) error {
	for _, e := range []error{jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount, nats.ErrNoResponders} {
		if errors.Is(err, e) {
			return fmt.Errorf("JetStream is not enabled on the server (nats-server -js), or not ready yet: %w", err)
		}
	}
	return err
}

func (c *natsConn) kv(b Bucket) jetstream.KeyValue {
	if b == BucketPresence {
		return c.alive
	}
	return c.records
}

// Put implements Conn.
func (c *natsConn) Put(ctx context.Context, b Bucket, key string, value []byte) error {
	if n := c.MaxPayload(); len(value) > n {
		return fmt.Errorf("control: put: %d bytes, at most %d: %w", len(value), n, ErrTooLarge)
	}
	if _, err := c.kv(b).Put(ctx, key, value); err != nil {
		return fmt.Errorf("control: put in %s: %w", b, err)
	}
	return nil
}

// Get implements Conn.
func (c *natsConn) Get(ctx context.Context, b Bucket, key string) ([]byte, error) {
	e, err := c.kv(b).Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrKeyDeleted):
		return nil, fmt.Errorf("control: get from %s: %w", b, ErrNoKey)
	case err != nil:
		return nil, fmt.Errorf("control: get from %s: %w", b, err)
	}
	return e.Value(), nil
}

// Delete implements Conn. It purges, so that no marker is left for every tag that ever was.
func (c *natsConn) Delete(ctx context.Context, b Bucket, key string) error {
	if err := c.streams[b].Purge(ctx, jetstream.WithPurgeSubject(kvSubject(b, key))); err != nil {
		return fmt.Errorf("control: delete from %s: %w", b, err)
	}
	return nil
}

// List implements Conn.
func (c *natsConn) List(ctx context.Context, b Bucket, prefix string, limit int) ([][]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := c.kv(b).Watch(ctx, prefix+".*", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("control: list in %s: %w", b, err)
	}
	defer c.endWatch(cancel, w)
	var out [][]byte
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return nil, fmt.Errorf("control: list in %s: the connection ended", b)
			case e == nil:
				return out, nil
			}
			if out = append(out, e.Value()); len(out) == limit {
				return out, nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("control: list in %s: %w", b, context.Cause(ctx))
		case <-c.done:
			return nil, c.Err()
		}
	}
}

// endWatch ends a watch without waiting for the server, and takes what the watch still wants to
// hand over: it would wait for ever.
func (c *natsConn) endWatch(cancel func(), w jetstream.KeyWatcher) {
	cancel()
	c.mu.Lock()
	running := c.err == nil
	if running {
		c.wg.Go(func() { c.drain(w) })
	}
	c.mu.Unlock()
	if !running {
		c.drain(w)
	}
}

// drain takes a watch's values until the watch says that it has ended. A watch that was made while
// the connection broke does not say so; then it has nothing more to hand over soon after.
func (c *natsConn) drain(w jetstream.KeyWatcher) {
	for {
		select {
		case _, ok := <-w.Updates():
			if !ok {
				return
			}
			continue
		case <-c.ctx.Done():
		}
		t := time.NewTimer(natsFlush)
		select {
		case _, ok := <-w.Updates():
			t.Stop()
			if !ok {
				return
			}
		case <-t.C:
			return
		}
	}
}

// Watch implements Conn.
func (c *natsConn) Watch(ctx context.Context, b Bucket, key string, changed func([]byte)) error {
	// The watch is set up within ctx, and lives as long as the Conn.
	life, cancel := context.WithCancel(c.ctx)
	stop := context.AfterFunc(ctx, cancel)
	w, err := c.kv(b).Watch(life, key, jetstream.IgnoreDeletes())
	if !stop() && err == nil {
		c.endWatch(cancel, w)
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		return fmt.Errorf("control: watch %s: %w", b, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		cancel()
		return c.err
	}
	c.wg.Go(func() {
		defer c.drain(w)
		defer cancel()
		for {
			select {
			case e, ok := <-w.Updates():
				switch {
				case !ok:
					return
				case e != nil:
					changed(e.Value())
				}
			case <-c.ctx.Done():
				return
			}
		}
	})
	return nil
}
