package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestQuiesce: listeners close at once, open connections hold it up.
func TestQuiesce(t *testing.T) {
	n := newNetwork(t)
	a, b := n.add(1, Config{}), n.add(2, Config{})
	n.join()
	l, err := a.ListenTCP("tcp", netip.AddrPortFrom(a.cfg.Addrs[0], 4000))
	if err != nil {
		t.Fatal(err)
	}
	c, d := connected(a, b)
	defer d.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Quiesce(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Quiesce with an open connection: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Quiesce: %v", err)
	}
	c.Close()
	if err := a.Quiesce(a.context()); err != nil {
		t.Errorf("Quiesce: %v", err)
	}
}
