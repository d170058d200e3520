package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/veil-net/anchor/internal/queue"
)

// socketBuffer is how many bytes wait for the network before Publish waits too.
const socketBuffer = 4 << 20

// natsSocket is a net.Conn whose Write never waits: bytes go to a queue, and a goroutine writes
// them. nats.go holds its lock while it writes; with a server that is frozen every call of
// nats.go would wait with it, Close included. Waiting for room happens in waitRoom instead.
type natsSocket struct {
	net.Conn
	out     *queue.Queue[[]byte]
	written chan struct{} // closed when the writing goroutine has ended

	mu  sync.Mutex
	err error // why writing ended
}

func newNATSSocket(c net.Conn) *natsSocket {
	s := &natsSocket{
		Conn: c, written: make(chan struct{}),
		out: queue.New(nil, queue.Config{
			Name: "control.socket", Capacity: socketBuffer, Unit: "bytes", Policy: queue.Admit,
		}, func(b []byte) int { return len(b) }),
	}
	go s.write()
	return s
}

// Write takes p without waiting.
func (s *natsSocket) Write(p []byte) (int, error) {
	if err := s.out.Push(context.Background(), slices.Clone(p)); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil {
			err = s.err
		}
		return 0, err
	}
	return len(p), nil
}

// waitRoom waits until the network has taken enough of what was written.
func (s *natsSocket) waitRoom(ctx context.Context) error { return s.out.WaitRoom(ctx) }

// write hands the queue to the network until Close or an error.
func (s *natsSocket) write() {
	defer close(s.written)
	batch := make([][]byte, 16)
	for {
		n, err := s.out.Pop(context.Background(), batch)
		if err != nil {
			return
		}
		for i, b := range batch[:n] {
			batch[i] = nil
			if _, err := s.Conn.Write(b); err != nil {
				s.mu.Lock()
				s.err = err
				s.mu.Unlock()
				s.Close()
				return
			}
		}
	}
}

// Close ends reading and writing at once; it does not wait.
func (s *natsSocket) Close() error {
	s.out.Close()
	return s.Conn.Close()
}

// natsDialer dials for one attempt to connect, and can end it: nats.go knows no contexts.
type natsDialer struct {
	ctx  context.Context
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu      sync.Mutex
	sockets []*natsSocket
	stops   []func() bool
	err     error // of the last dial
}

// Dial implements nats.CustomDialer.
func (d *natsDialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, natsTimeout)
	defer cancel()
	c, err := d.dial(ctx, network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err = err; err != nil {
		return nil, err
	}
	s := newNATSSocket(c)
	d.sockets = append(d.sockets, s)
	d.stops = append(d.stops, context.AfterFunc(d.ctx, func() { s.Close() }))
	return s, nil
}

// last returns the socket in use.
func (d *natsDialer) last() *natsSocket {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sockets[len(d.sockets)-1]
}

// detach says that the attempt has succeeded: the end of its context ends nothing any more.
func (d *natsDialer) detach() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, stop := range d.stops {
		stop()
	}
}

// abort closes all sockets and waits for what they run.
func (d *natsDialer) abort() {
	d.detach()
	d.mu.Lock()
	sockets := d.sockets
	d.mu.Unlock()
	for _, s := range sockets {
		s.Close()
		<-s.written
	}
}

// explain says what nats.Connect's err was about: it hides refusals and calls silence a time-out.
func (d *natsDialer) explain(ctx context.Context, err error) error {
	d.mu.Lock()
	dialled, dial := len(d.sockets) > 0, d.err
	d.mu.Unlock()
	var timeout net.Error
	switch {
	case dial != nil:
		err = dial
	case dialled && ctx.Err() != nil:
		err = errors.New("the server accepted the connection and has not answered")
	case dialled && (errors.Is(err, nats.ErrTimeout) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()):
		err = fmt.Errorf("the server accepted the connection and did not answer for %v: %w", natsTimeout, err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		err = fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}
