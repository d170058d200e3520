package control

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// memoryConn is a Conn of a Memory.
type memoryConn struct {
	m       *Memory
	side    string
	age     time.Duration
	dropped atomic.Uint64
	wg      sync.WaitGroup // the subscriptions

	mu   sync.Mutex
	subs []*memorySub
	err  error
	done chan struct{} // closed by end
}

// Publish implements Conn.
func (c *memoryConn) Publish(ctx context.Context, subject string, msg []byte) error {
	switch {
	case len(msg) > c.m.opt.MaxPayload:
		return fmt.Errorf("control: publish: %d bytes, at most %d: %w", len(msg), c.m.opt.MaxPayload, ErrTooLarge)
	case c.Err() != nil:
		return c.Err()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	c.m.deliver(c.side, subject, msg)
	return nil
}

// deliver hands msg to every subscription that fits.
func (m *Memory) deliver(from, subject string, msg []byte) {
	type copyOf struct {
		to    *memorySub
		delay time.Duration
	}
	var copies []copyOf
	m.mu.Lock()
	for c := range m.conns {
		for _, s := range c.matching(subject) {
			for _, d := range m.fate(flow{from, c.side, subject}) {
				copies = append(copies, copyOf{s, d})
			}
		}
	}
	m.mu.Unlock()
	for _, c := range copies {
		c.to.push(slices.Clone(msg), c.delay)
	}
}

func (c *memoryConn) matching(subject string) []*memorySub {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*memorySub
	for _, s := range c.subs {
		if subjectMatches(s.pattern, subject) {
			out = append(out, s)
		}
	}
	return out
}

// Subscribe implements Conn.
func (c *memoryConn) Subscribe(subject string, handle func([]byte)) (cancel func(), err error) {
	s := newMemorySub(c, subject, handle)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	c.subs = append(c.subs, s)
	c.wg.Go(s.run)
	return func() {
		c.mu.Lock()
		c.subs = slices.DeleteFunc(c.subs, func(o *memorySub) bool { return o == s })
		c.mu.Unlock()
		s.queue.Close()
	}, nil
}

// call waits as the rules say about a read or write of subject.
func (c *memoryConn) call(ctx context.Context, subject string) error {
	c.m.mu.Lock()
	delays := c.m.fate(flow{from: c.side, subject: subject})
	c.m.mu.Unlock()
	var after <-chan time.Time // never, if the call is lost
	if len(delays) > 0 {
		t := time.NewTimer(delays[0])
		defer t.Stop()
		after = t.C
	}
	select {
	case <-after:
		return c.Err()
	case <-ctx.Done():
		return fmt.Errorf("control: %s: no answer: %w", subject, context.Cause(ctx))
	case <-c.done:
		return c.Err()
	}
}

func kvSubject(b Bucket, key string) string { return "$KV." + string(b) + "." + key }

// Put implements Conn.
func (c *memoryConn) Put(ctx context.Context, b Bucket, key string, value []byte) error {
	if len(value) > c.m.opt.MaxPayload {
		return fmt.Errorf("control: put: %d bytes, at most %d: %w", len(value), c.m.opt.MaxPayload, ErrTooLarge)
	}
	subject := kvSubject(b, key)
	if err := c.call(ctx, subject); err != nil {
		return err
	}
	c.m.mu.Lock()
	c.m.store[subject] = memoryValue{slices.Clone(value), time.Now()}
	c.m.mu.Unlock()
	c.m.deliver(c.side, subject, value)
	return nil
}

// Get implements Conn.
func (c *memoryConn) Get(ctx context.Context, b Bucket, key string) ([]byte, error) {
	subject := kvSubject(b, key)
	if err := c.call(ctx, subject); err != nil {
		return nil, err
	}
	v, ok := c.m.get(b, subject)
	if !ok {
		return nil, fmt.Errorf("control: get %s: %w", key, ErrNoKey)
	}
	return slices.Clone(v), nil
}

func (m *Memory) get(b Bucket, subject string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.store[subject]
	if ok && b == BucketPresence && time.Since(v.at) > PresenceTTL {
		delete(m.store, subject)
		return nil, false
	}
	return v.bytes, ok
}

// Delete implements Conn.
func (c *memoryConn) Delete(ctx context.Context, b Bucket, key string) error {
	subject := kvSubject(b, key)
	if err := c.call(ctx, subject); err != nil {
		return err
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	delete(c.m.store, subject)
	return nil
}

// List implements Conn.
func (c *memoryConn) List(ctx context.Context, b Bucket, prefix string, limit int) ([][]byte, error) {
	pattern := kvSubject(b, prefix+".*")
	if err := c.call(ctx, pattern); err != nil {
		return nil, err
	}
	c.m.mu.Lock()
	var keys []string
	for k := range c.m.store {
		if subjectMatches(pattern, k) {
			keys = append(keys, k)
		}
	}
	c.m.mu.Unlock()
	slices.SortFunc(keys, strings.Compare)
	var out [][]byte
	for _, k := range keys {
		if v, ok := c.m.get(b, k); ok && len(out) < limit {
			out = append(out, slices.Clone(v))
		}
	}
	return out, nil
}

// Watch implements Conn.
func (c *memoryConn) Watch(ctx context.Context, b Bucket, key string, changed func([]byte)) error {
	subject := kvSubject(b, key)
	if err := c.call(ctx, subject); err != nil {
		return err
	}
	if _, err := c.Subscribe(subject, changed); err != nil {
		return err
	}
	if v, ok := c.m.get(b, subject); ok {
		for _, s := range c.matching(subject) {
			s.push(slices.Clone(v), 0)
		}
	}
	return nil
}

// MaxPayload implements Conn.
func (c *memoryConn) MaxPayload() int { return c.m.opt.MaxPayload }

// Age implements Conn.
func (c *memoryConn) Age() time.Duration { return c.age }

// Dropped implements Conn.
func (c *memoryConn) Dropped() uint64 { return c.dropped.Load() }

// Done implements Conn.
func (c *memoryConn) Done() <-chan struct{} { return c.done }

// Err implements Conn.
func (c *memoryConn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// end ends the Conn once; it does not wait.
func (c *memoryConn) end(err error) {
	c.m.mu.Lock()
	delete(c.m.conns, c)
	c.m.mu.Unlock()
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
	}
	subs := c.subs
	c.subs = nil
	c.mu.Unlock()
	for _, s := range subs {
		s.queue.Close()
	}
	if first {
		close(c.done)
	}
}

// Close implements Conn.
func (c *memoryConn) Close() error {
	c.end(fmt.Errorf("control: memory fabric: %w", net.ErrClosed))
	c.wg.Wait()
	return nil
}
