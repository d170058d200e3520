//go:build !js

package netstack

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestPingSizes(t *testing.T) {
	for _, mtu := range []int{1280, 16000} {
		a, _ := two(t, Config{MTU: mtu})
		for _, tc := range []struct {
			to   netip.Addr
			most int
		}{{v4(2), 65507}, {v6(2), 65527}, {v4(1), 65507}, {v6(1), 65527}} {
			for _, size := range []int{0, 1, 56, 1400, 20000, tc.most} {
				if _, err := a.Ping(a.context(), tc.to, bytes.Repeat([]byte{0xa5}, size)); err != nil {
					t.Errorf("MTU %d: %d bytes to %v: %v", mtu, size, tc.to, err)
				}
			}
			if _, err := a.Ping(a.context(), tc.to, make([]byte, tc.most+1)); !errors.Is(err, syscall.EMSGSIZE) {
				t.Errorf("%d bytes to %v: %v, want EMSGSIZE", tc.most+1, tc.to, err)
			}
		}
		a.n.noDrops()
	}
}

// TestPingConcurrent: each gets its own reply.
func TestPingConcurrent(t *testing.T) {
	a, b := two(t, Config{})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for _, nd := range []*node{a, b} {
				if _, err := nd.Ping(nd.context(), v6(3-nd.id), []byte{byte(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestPingErrors(t *testing.T) {
	n := newNetwork(t)
	a := n.add(1, Config{Routes: []netip.Prefix{netip.MustParsePrefix("fd07::/64")}})
	n.join()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := a.Ping(ctx, v6(9), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no reply: %v", err)
	}
	if _, err := a.Ping(t.Context(), netip.MustParseAddr("2001:db8::1"), nil); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("no route: %v", err)
	}
	for _, bad := range []netip.Addr{{}, netip.MustParseAddr("ff02::1"), v6(2).WithZone("x")} {
		if _, err := a.Ping(t.Context(), bad, nil); err == nil {
			t.Errorf("Ping %v succeeded", bad)
		}
	}
	done := make(chan error)
	go func() {
		_, err := a.Ping(context.Background(), v6(9), nil)
		done <- err
	}()
	stays(t, done)
	a.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Ping during Close: %v", err)
	}
	if _, err := a.Ping(t.Context(), v6(9), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Ping after Close: %v", err)
	}
}
