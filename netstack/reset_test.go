//go:build !js

package netstack

import (
	"io"
	"syscall"
	"testing"
)

// TestResetPeer: connections with the peer end at once, dialled and accepted ones, whatever
// they wait for; those with others, and new ones with the peer, are not touched.
func TestResetPeer(t *testing.T) {
	n := newNetwork(t)
	a, b, c := n.add(1, Config{}), n.add(2, Config{}), n.add(3, Config{})
	n.join()
	dialled, d := connected(a, b)
	e, accepted := connected(b, a)
	full, f := connected(a, b)
	fill(t, full)
	other, o := connected(a, c)
	errs := make(chan error)
	go func() { _, err := dialled.Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := accepted.Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := full.Write(make([]byte, 1<<20)); errs <- err }()
	stays(t, errs)
	a.ResetPeer(v6(2))
	for range 3 {
		wantIs(t, "waiting call", <-errs, syscall.ECONNRESET)
	}
	_, err := dialled.Read(make([]byte, 1))
	wantIs(t, "later Read", err, syscall.ECONNRESET)
	_, err = accepted.Write([]byte("x"))
	wantIs(t, "later Write", err, syscall.ECONNRESET)
	if err := dialled.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := other.Write([]byte("x")); err != nil {
		t.Errorf("another peer's connection: %v", err)
	}
	if _, err := io.ReadFull(o, make([]byte, 1)); err != nil {
		t.Errorf("another peer's connection: %v", err)
	}
	fresh, g := connected(a, b)
	for _, x := range []io.Closer{accepted, full, other, fresh, d, e, f, o, g} {
		x.Close()
	}
	a.ResetPeer(v6(99)) // nobody
}

// TestResetPeerBeforeAccept: a connection that waits to be accepted is reset too.
func TestResetPeerBeforeAccept(t *testing.T) {
	n := newNetwork(t)
	a, b := n.add(1, Config{}), n.add(2, Config{})
	n.join()
	l, at := a.listen()
	defer l.Close()
	c := b.dial(at)
	defer c.Close()
	errs := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
	var err error
	eventually(t, "the reset", func() bool { // the handshake may still be under way at a
		a.ResetPeer(v6(2))
		select {
		case err = <-errs:
			return true
		default:
			return false
		}
	})
	wantIs(t, "Read of the peer", err, syscall.ECONNRESET)
}
