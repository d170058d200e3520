package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// natsFlush bounds how long Close waits for the server to take what was published.
	natsFlush = 250 * time.Millisecond
	// natsPending and natsPendingBytes bound what waits for a handler, per subscription.
	natsPending      = 1 << 16
	natsPendingBytes = 32 << 20
)

// natsConn is a Conn on a NATS server. It lives as long as one TCP connection.
type natsConn struct {
	nc      *nats.Conn
	socket  *natsSocket
	pending int
	records jetstream.KeyValue
	alive   jetstream.KeyValue
	streams map[Bucket]jetstream.Stream
	age     time.Duration

	ctx    context.Context // ends with the Conn
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the watches

	mu      sync.Mutex
	subs    map[*nats.Subscription]uint64 // losses already counted
	dropped uint64
	cause   error // why the connection broke
	err     error // set when done is closed
	done    chan struct{}
}

// Publish implements Conn.
func (c *natsConn) Publish(ctx context.Context, subject string, msg []byte) error {
	if n := c.MaxPayload(); len(msg) > n {
		return fmt.Errorf("control: publish: %d bytes, at most %d: %w", len(msg), n, ErrTooLarge)
	}
	if err := c.socket.waitRoom(ctx); err != nil {
		if end := c.Err(); end != nil {
			err = end
		}
		return fmt.Errorf("control: publish: %w", err)
	}
	if err := c.nc.Publish(subject, msg); err != nil {
		return fmt.Errorf("control: publish: %w", err)
	}
	return nil
}

// Subscribe implements Conn.
func (c *natsConn) Subscribe(subject string, handle func([]byte)) (cancel func(), err error) {
	s, err := c.nc.Subscribe(subject, func(m *nats.Msg) { handle(m.Data) })
	if err != nil {
		return nil, fmt.Errorf("control: subscribe: %w", err)
	}
	pending := c.pending
	if pending == 0 {
		pending = natsPending
	}
	if err := s.SetPendingLimits(pending, natsPendingBytes); err != nil {
		return nil, fmt.Errorf("control: subscribe: %w", err)
	}
	c.mu.Lock()
	c.subs[s] = 0
	c.mu.Unlock()
	return func() {
		c.countDrops(s)
		s.Unsubscribe()
		c.mu.Lock()
		delete(c.subs, s)
		c.mu.Unlock()
	}, nil
}

// countDrops adds what a subscription lost since it was asked last.
func (c *natsConn) countDrops(s *nats.Subscription) {
	n, err := s.Dropped()
	if err != nil || n < 0 {
		return // closed, and asked before
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if seen, ok := c.subs[s]; ok && uint64(n) > seen {
		c.dropped += uint64(n) - seen
		c.subs[s] = uint64(n)
	}
}

// Dropped implements Conn.
func (c *natsConn) Dropped() uint64 {
	c.mu.Lock()
	subs := make([]*nats.Subscription, 0, len(c.subs))
	for s := range c.subs {
		subs = append(subs, s)
	}
	c.mu.Unlock()
	for _, s := range subs {
		c.countDrops(s)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// asyncError hears of what goes wrong in the background.
func (c *natsConn) asyncError(_ *nats.Conn, s *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer) && s != nil:
		c.countDrops(s)
	case s == nil:
		c.note(err)
	}
}

// note keeps why the connection broke.
func (c *natsConn) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.cause == nil {
		c.cause = err
	}
}

// ended is called once, when nats.go has closed.
func (c *natsConn) ended(nc *nats.Conn) {
	last := nc.LastError()
	c.mu.Lock()
	err := c.cause
	if err == nil {
		err = last
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("the server closed the connection")
	}
	c.err = fmt.Errorf("control: connection to the Master ended: %w", err)
	c.mu.Unlock()
	c.cancel(c.err)
	close(c.done)
}

// MaxPayload implements Conn.
func (c *natsConn) MaxPayload() int { return int(c.nc.MaxPayload()) }

// Age implements Conn.
func (c *natsConn) Age() time.Duration { return c.age }

// Done implements Conn.
func (c *natsConn) Done() <-chan struct{} { return c.done }

// Err implements Conn.
func (c *natsConn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close implements Conn.
func (c *natsConn) Close() error {
	c.note(net.ErrClosed)
	if c.nc.IsConnected() {
		c.nc.FlushTimeout(natsFlush)
	}
	c.Dropped()
	c.socket.Close() // first, or nats.go would write to a server that may be frozen
	c.nc.Close()
	<-c.done
	<-c.socket.written
	c.wg.Wait()
	return nil
}
