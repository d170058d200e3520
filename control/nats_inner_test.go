package control

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestNATSSlowConsumer: what nats.go drops because a handler is slow is counted.
func TestNATSSlowConsumer(t *testing.T) {
	m, err := StartMaster(MasterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	f := m.Fabric().(*natsFabric)
	f.pending = 2
	ctx := t.Context()
	c, err := f.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	called, release := make(chan struct{}, 1), make(chan struct{})
	if _, err := c.Subscribe("slow", func([]byte) {
		select {
		case called <- struct{}{}:
		default:
		}
		<-release
	}); err != nil {
		t.Fatal(err)
	}
	defer close(release)
	send := func(n int) {
		for range n {
			if err := c.Publish(ctx, "slow", []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Put(ctx, BucketRecords, "flush", nil); err != nil { // all have come back when this is answered
			t.Fatal(err)
		}
	}
	send(1)
	<-called
	if n := c.Dropped(); n != 0 {
		t.Errorf("%d dropped before there was reason", n)
	}
	// The one in the handler counts as pending, so there is room for one more.
	for _, want := range []uint64{2, 5} {
		n := 3
		send(n)
		if got := c.Dropped(); got != want {
			t.Errorf("%d dropped, want %d", got, want)
		}
	}
}

// TestSocketNeverWaits: nats.go's writes return at once, whatever the network does; waitRoom waits.
func TestSocketNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		s := newNATSSocket(near)
		chunk := make([]byte, 64<<10)
		for sent := 0; sent < socketBuffer+17*len(chunk); sent += len(chunk) { // 16 leave the queue at once
			if n, err := s.Write(chunk); n != len(chunk) || err != nil {
				t.Fatal(n, err)
			}
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("no room"))
		defer cancel()
		if err := s.waitRoom(ctx); err == nil || err.Error() != "no room" {
			t.Error(err)
		}
		room := make(chan error, 1)
		go func() { room <- s.waitRoom(t.Context()) }()
		synctest.Wait()
		if len(room) != 0 {
			t.Error("room where there is none")
		}
		go io.Copy(io.Discard, far)
		if err := <-room; err != nil {
			t.Error(err)
		}
		s.Close()
		s.Close()
		<-s.written
		if _, err := s.Write(chunk); err == nil {
			t.Error("wrote after Close")
		}
		far.Close()
	})
}

// TestSocketTellsWhy: a write after the network has failed returns its error.
func TestSocketTellsWhy(t *testing.T) {
	near, far := net.Pipe()
	far.Close()
	s := newNATSSocket(near)
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-s.written
	if _, err := s.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}
