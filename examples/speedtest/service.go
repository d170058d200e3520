package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"github.com/veil-net/anchor/examples/speedtest/peers"
)

// The first byte on a connection asks for a service; the server sends it back when it is
// ready. On a data channel this also shows the client that the channel is open both ways.
const (
	serviceEcho = 'e' // sends back what comes
	serviceSink = 's' // counts what comes
)

// server is the far end of every test. The zero value is ready for use.
type server struct {
	received atomic.Uint64 // bytes that sinks have read
}

// handle serves one connection until its end; it is a peers.Handler.
func (s *server) handle(c net.Conn) {
	var service [1]byte
	if _, err := io.ReadFull(c, service[:]); err != nil {
		return
	}
	if _, err := c.Write(service[:]); err != nil {
		return
	}
	switch service[0] {
	case serviceEcho:
		s.echo(c)
	case serviceSink:
		s.sink(c)
	}
}

// echo is not io.Copy, which would use a fast way where a connection has one: each round trip
// is one read and one write for every contender.
func (s *server) echo(c net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (s *server) sink(c net.Conn) {
	buf := make([]byte, 256<<10)
	for {
		n, err := c.Read(buf)
		s.received.Add(uint64(n))
		if err != nil {
			return
		}
	}
}

// open dials and asks for a service. Until stop is called, the end of ctx closes the
// connection; stop closes it too.
func open(ctx context.Context, p peers.Pair, service byte) (c net.Conn, stop func(), err error) {
	c, err = p.Dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	detach := context.AfterFunc(ctx, func() { c.Close() })
	stop = func() {
		if detach() {
			c.Close()
		}
	}
	if err := roundTrip(c, []byte{service}, make([]byte, 1)); err != nil {
		stop()
		return nil, nil, orCause(ctx, err)
	}
	return c, stop, nil
}

// roundTrip sends a message and waits until as many bytes came back, in buf.
func roundTrip(c net.Conn, message, buf []byte) error {
	if _, err := c.Write(message); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if _, err := io.ReadFull(c, buf[:len(message)]); err != nil {
		return fmt.Errorf("wait for the echo: %w", err)
	}
	return nil
}

// orCause returns why ctx ended, if it did: then err only tells that its connection was
// closed for it.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
