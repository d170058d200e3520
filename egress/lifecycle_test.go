package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/tuntest"
)

func TestSourceEnds(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		if f.Err() != nil {
			t.Errorf("before the end Err is %v", f.Err())
		}
		f.Start()
		f.Start() // does nothing
		f.dev.Feed(udp(bob4, 0, 0))
		if err := f.dev.Close(); err != nil {
			t.Fatal(err)
		}
		<-f.Done()
		if err := f.Err(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Err is %v", err)
		}
		f.net.wait(t, 1) // what was read is still sent
		f.Close()
		f.Close()
		f.wantDrops(nil)
	})
}

func TestCloseWithoutStart(t *testing.T) {
	f := newFixture(t, true, nil)
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	f.Close()
	<-f.Done()
	if !errors.Is(f.Err(), net.ErrClosed) {
		t.Errorf("Err is %v", f.Err())
	}
	f.Start() // does nothing
	if f.TryRoom(bob4) {
		t.Error("room after Close")
	}
	if err := f.WaitRoom(t.Context(), bob4); !errors.Is(err, net.ErrClosed) {
		t.Errorf("WaitRoom after Close: %v", err)
	}
}

// Close with a destination that stalls, one that does not resolve, writers that wait for room,
// and a source that fails for ever.
func TestCloseEndsEverything(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, func(c *Config) { c.QueueBytes = 1 })
		f.net.send = stall(make(chan struct{}))
		f.dir.resolve = func(ctx context.Context, a netip.Addr) (identity.ID, error) {
			if a == bob4 {
				return idOf(a), nil
			}
			<-ctx.Done()
			return identity.ID{}, context.Cause(ctx)
		}
		f.Start()
		for i := range 2 {
			f.dev.Feed(udp(bob4, i, 0), udp(carol, i, 0))
			synctest.Wait()
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := f.WaitRoom(t.Context(), bob4); !errors.Is(err, net.ErrClosed) {
					t.Errorf("WaitRoom: %v", err)
				}
			})
		}
		synctest.Wait()
		f.dev.Fail(errTest)
		synctest.Wait()
		for range 3 {
			wg.Go(f.stopQuietly)
		}
		wg.Wait()
		f.wantDrops(map[string]uint64{"closed": 4})
		if n := len(f.dev.Written()); n != 0 {
			t.Errorf("%d ICMP errors at Close", n)
		}
		f.stop()
	})
}

func (f *fixture) stopQuietly() {
	f.dev.Close()
	f.Close()
}

// A sender that was closed before us is no fault of the destination's.
func TestSenderClosedFirst(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.net.send = func(context.Context, identity.ID) error { return net.ErrClosed }
		f.Start()
		f.dev.Feed(udp(bob4, 0, 0))
		synctest.Wait()
		f.wantDrops(map[string]uint64{"closed": 1})
		if n := len(f.dev.Written()); n != 0 {
			t.Errorf("%d ICMP errors", n)
		}
		f.stop()
	})
}

func TestShutdownSendsWhatIsLeft(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.net.send = func(ctx context.Context, _ identity.ID) error {
			time.Sleep(10 * time.Millisecond)
			return ctx.Err()
		}
		f.Start()
		for i := range 100 {
			f.dev.Feed(udp(bob4, i, 0))
		}
		f.dev.Close()
		if err := f.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		checkOrder(t, packetsOf(f.net.wait(t, 100), idOf(bob4)), bob4, 0, 100, 0)
		f.wantDrops(nil)
		f.stop()
	})
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.net.send = stall(make(chan struct{}))
		f.Start()
		f.dev.Feed(udp(bob4, 0, 0), udp(bob4, 1, 0))
		synctest.Wait()
		f.dev.Close()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errTest)
		defer cancel()
		if err := f.Shutdown(ctx); !errors.Is(err, errTest) {
			t.Errorf("Shutdown: %v", err)
		}
		f.wantDrops(map[string]uint64{"closed": 2})

		g := newFixture(t, inProcess, nil)
		g.Start()
		ended, end := context.WithCancelCause(t.Context())
		end(errTest)
		wait := make(chan error)
		go func() { wait <- g.Shutdown(ended) }()
		synctest.Wait()
		g.dev.Close() // only then can the reader end
		if err := <-wait; !errors.Is(err, errTest) {
			t.Errorf("Shutdown with an open source: %v", err)
		}
	})
}

func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, func(c *Config) { c.QueueBytes = 1000 })
		open := make(chan struct{})
		f.net.send = stall(open)
		f.Start()
		if !f.TryRoom(bob4) || f.WaitRoom(t.Context(), bob4) != nil {
			t.Error("no room to a destination without packets")
		}
		f.dev.Feed(udp(bob4, 0, 1000))
		synctest.Wait() // the Egresser has it
		f.dev.Feed(udp(bob4, 1, 999))
		synctest.Wait()
		if !f.TryRoom(bob4) {
			t.Error("no room below the limit")
		}
		f.dev.Feed(udp(bob4, 2, 100))
		synctest.Wait()
		if f.TryRoom(bob4) || !f.TryRoom(carol) {
			t.Error("room is per destination")
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.WaitRoom(ctx, bob4) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("WaitRoom on a full queue returned %v", err)
		default:
		}
		cancel(errTest)
		if err := <-done; !errors.Is(err, errTest) {
			t.Errorf("WaitRoom after cancel: %v", err)
		}
		go func() { done <- f.WaitRoom(t.Context(), bob4) }()
		synctest.Wait()
		close(open)
		if err := <-done; err != nil {
			t.Errorf("WaitRoom when there is room: %v", err)
		}
		f.net.wait(t, 3)
		f.stop()
	})
}

// A dead destination makes room by expiry.
func TestRoomToADeadDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, func(c *Config) { c.QueueBytes = 1 })
		f.net.send = stall(make(chan struct{}))
		f.Start()
		began := time.Now()
		for i := range 5 {
			if err := f.WaitRoom(t.Context(), bob4); err != nil {
				t.Fatal(err)
			}
			f.dev.Feed(udp(bob4, i, 0))
			synctest.Wait()
		}
		if d := time.Since(began); d < DefaultMaxAge || d > 5*DefaultMaxAge {
			t.Errorf("5 packets to a dead destination took %v", d)
		}
		f.stop()
	})
}

// A busy Egresser follows the directory when an address moves to another anchor.
func TestAddressMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		var mu sync.Mutex
		to, known := identity.ID{7}, true
		f.dir.known = func(netip.Addr) (identity.ID, bool) {
			mu.Lock()
			defer mu.Unlock()
			return to, known
		}
		move := func(id identity.ID, k bool) {
			mu.Lock()
			defer mu.Unlock()
			to, known = id, k
		}
		f.Start()
		send := func(n int, want identity.ID) {
			t.Helper()
			f.dev.Feed(udp(bob4, n, 0))
			batches := f.net.wait(t, n+1)
			if got := batches[len(batches)-1].to; got != want {
				t.Errorf("packet %d went to %d, want %d", n, got[0], want[0])
			}
		}
		send(0, identity.ID{7})
		move(identity.ID{8}, true)
		send(1, identity.ID{7})
		time.Sleep(recheck)
		send(2, identity.ID{8})
		move(identity.ID{}, false) // not known now is no reason to stop
		time.Sleep(recheck)
		send(3, identity.ID{8})
		if n := f.net.uses(); n != 1 {
			t.Errorf("%d senders are open", n)
		}
		// After a fault the directory is asked at once.
		move(identity.ID{9}, true)
		f.net.send = func(context.Context, identity.ID) error { return errTest }
		f.dev.Feed(udp(bob4, 99, 0))
		synctest.Wait()
		f.net.send = nil
		send(4, identity.ID{9})
		f.stop()
	})
}

func TestNewChecksItsConfig(t *testing.T) {
	full := Config{Source: &tuntest.Device{}, Local: []netip.Addr{own4}, Resolver: &directory{}, Senders: &network{}}
	for name, cut := range map[string]func(*Config){
		"Source":   func(c *Config) { c.Source = nil },
		"Local":    func(c *Config) { c.Local = nil },
		"Resolver": func(c *Config) { c.Resolver = nil },
		"Senders":  func(c *Config) { c.Senders = nil },
	} {
		cfg := full
		cut(&cfg)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New without %s does not panic", name)
				}
			}()
			New(cfg)
		}()
	}
	New(full).Close()
}
