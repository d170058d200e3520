package anchor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

// closeTimeout is what Close promises.
const closeTimeout = 3 * time.Second

// closes checks that f returns within the bound that Close promises, with room for a slow
// machine.
func closes(t *testing.T, what string, f func() error) error {
	t.Helper()
	began := time.Now()
	err := f()
	if d := time.Since(began); d > 2*closeTimeout {
		t.Errorf("%s took %v", what, d)
	}
	return err
}

func TestCloseInAnyState(t *testing.T) {
	r := newRealm(t)
	t.Run("before Start", func(t *testing.T) {
		n := r.node(r.issue("a", nil), nil)
		if err := n.Err(); err != nil {
			t.Errorf("Err of an open node = %v", err)
		}
		if err := closes(t, "Close", n.Close); err != nil {
			t.Errorf("Close = %v", err)
		}
		if err := n.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close = %v", err)
		}
		if err := n.Start(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Start after Close = %v", err)
		}
		if _, err := n.Listen("tcp", ":1"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Listen after Close = %v", err)
		}
		if err := n.Shutdown(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Shutdown after Close = %v", err)
		}
		<-n.Done()
		if err := n.Err(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Err = %v", err)
		}
	})
	t.Run("during Start", func(t *testing.T) {
		for i, wait := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
			n := r.node(r.issue(fmt.Sprintf("b%d", i), nil), nil)
			started := make(chan error)
			go func() { started <- n.Start(context.Background()) }()
			time.Sleep(wait) // the case is about how far Start has come
			if err := closes(t, "Close", n.Close); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("Close = %v", err)
			}
			if err := <-started; err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("Start = %v", err)
			}
		}
	})
	t.Run("from several goroutines", func(t *testing.T) {
		n := r.node(r.issue("c", nil), nil)
		if err := n.Start(r.context(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		first := 0
		for range 8 {
			wg.Go(func() {
				if n.Close() == nil {
					mu.Lock()
					first++
					mu.Unlock()
				}
				select {
				case <-n.Done():
				default:
					t.Error("Close returned before Done")
				}
			})
		}
		wg.Wait()
		if first != 1 {
			t.Errorf("%d calls of Close succeeded, want 1", first)
		}
	})
}

// Everything that waits is woken by Close.
func TestCloseWakesPendingCalls(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.pair()
	l, err := alice.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := alice.ListenPacket("udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	bl, err := bob.Listen("tcp", ":8")
	if err != nil {
		t.Fatal(err)
	}
	defer bl.Close()
	c, err := alice.Dial(r.context(10*time.Second), "tcp", "bob:8")
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"Accept":   func() error { _, err := l.Accept(); return err },
		"ReadFrom": func() error { _, _, err := pc.ReadFrom(make([]byte, 10)); return err },
		"Read":     func() error { _, err := c.Read(make([]byte, 10)); return err },
		"Write": func() error { // nobody reads, so it fills up
			for {
				if _, err := c.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
		},
		"Dial of an absent peer": func() error {
			_, err := alice.Dial(context.Background(), "tcp", identity.ID{1}.String()+":1")
			return err
		},
		"Ping of an absent peer": func() error {
			_, err := alice.Ping(context.Background(), identity.ID{2}.String())
			return err
		},
	}
	errs := make(chan error)
	for name, call := range calls {
		go func() {
			err := call()
			if err != nil && !errors.Is(err, net.ErrClosed) {
				err = fmt.Errorf("%s = %w, want net.ErrClosed", name, err)
			} else if err == nil {
				err = fmt.Errorf("%s succeeded", name)
			} else {
				err = nil
			}
			errs <- err
		}()
	}
	time.Sleep(300 * time.Millisecond) // let them wait
	if err := closes(t, "Close", alice.Close); err != nil {
		t.Error(err)
	}
	for range calls {
		select {
		case err := <-errs:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a call is still blocked after Close")
		}
	}
}

func TestStartIsShared(t *testing.T) {
	r := newRealm(t)
	n := r.node(r.issue("a", nil), nil)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := n.Start(r.context(10 * time.Second)); err != nil {
				t.Errorf("Start = %v", err)
			}
		})
	}
	wg.Wait()
	if err := n.Start(r.context(time.Second)); err != nil {
		t.Errorf("Start of a running node = %v", err)
	}
}

// A Master that is not there, not a Master, or silent: Start returns within its context and
// says what it was about. The node can be started again.
func TestMasterOutOfReach(t *testing.T) {
	r := newRealm(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // it accepts by the kernel's backlog, and says nothing
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tt := range []struct{ name, url string }{
		{"refused", "nats://" + closed.Addr().String()},
		{"silent", "nats://" + silent.Addr().String()},
		{"not an URL", "nats://:::"},
		{"no such scheme", "gopher://localhost"},
		{"empty", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := r.node(r.issue("m", nil), func(c *Config) { c.Control = control.NATS(tt.url) })
			if _, err := r.authority.Revoke("m"); err != nil { // frees the name for the next case
				t.Fatal(err)
			}
			began := time.Now()
			err := n.Start(r.context(time.Second))
			if err == nil || time.Since(began) > 5*time.Second {
				t.Fatalf("Start = %v after %v", err, time.Since(began))
			}
			if tt.url != "" && !strings.Contains(err.Error(), strings.TrimPrefix(tt.url, "nats://")) {
				t.Errorf("Start = %v, want the URL in it", err)
			}
			if _, err := n.Dial(r.context(300*time.Millisecond), "tcp", "bob:1"); err == nil {
				t.Error("Dial without a Master succeeds")
			}
			if err := closes(t, "Close", n.Close); err != nil {
				t.Errorf("Close = %v", err)
			}
		})
	}
}

func TestStartAgainAfterFailure(t *testing.T) {
	r := newRealm(t)
	mem := control.NewMemory(control.MemoryOptions{})
	mem.Stop()
	n := r.node(r.issue("a", nil), func(c *Config) { c.Control = mem })
	if err := n.Start(r.context(300 * time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Start without a Master = %v", err)
	}
	mem.Restart(true)
	if err := n.Start(r.context(10 * time.Second)); err != nil {
		t.Fatalf("Start when the Master is back = %v", err)
	}
}

func TestNewRejects(t *testing.T) {
	r := newRealm(t)
	id := r.issue("a", nil)
	good := Config{Identity: id, Control: r.master.Fabric()}
	for name, change := range map[string]func(*Config){
		"Identity":     func(c *Config) { c.Identity = nil },
		"Control":      func(c *Config) { c.Control = nil },
		"MTU":          func(c *Config) { c.MTU = 1279 },
		"MTU is 60001": func(c *Config) { c.MTU = 60001 },
		"LookupWait":   func(c *Config) { c.LookupWait = -1 },
		"StartTimeout": func(c *Config) { c.StartTimeout = -1 },
		"QueueBytes":   func(c *Config) { c.QueueBytes = -1 },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), strings.Fields(name)[0]) {
			t.Errorf("%s: New = %v", name, err)
		}
	}
}

func TestBadAddresses(t *testing.T) {
	r := newRealm(t)
	n := r.node(r.issue("a", nil), nil)
	if err := n.Start(r.context(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	ctx := r.context(20 * time.Second)
	for _, tt := range []struct{ network, address string }{
		{"sctp", "a:1"}, {"", "a:1"}, {"tcp5", "a:1"}, {"ip", "a:1"},
		{"tcp", "a"}, {"tcp", "a:"}, {"tcp", "a:http"}, {"tcp", "a:65536"}, {"tcp", "a:-1"},
		{"tcp", ":80"}, {"tcp", "under_score:1"}, {"tcp", strings.Repeat("x", 64) + ":1"},
		{"tcp", "fe80::1%eth0:1"}, {"tcp", "[fe80::1%eth0]:1"}, {"tcp", "[::1]:1"}, {"tcp", "127.0.0.1:1"},
		{"tcp", "[2001:db8::1]:1"}, {"tcp", "224.0.0.1:1"}, {"tcp4", "a:1"}, // no IPv4 address
	} {
		c, err := n.Dial(ctx, tt.network, tt.address)
		var oe *net.OpError
		if err == nil {
			c.Close()
			t.Errorf("Dial(%q, %q) succeeds", tt.network, tt.address)
		} else if !errors.As(err, &oe) {
			t.Errorf("Dial(%q, %q) = %T %v", tt.network, tt.address, err, err)
		}
	}
	for _, tt := range []struct{ network, address string }{
		{"udp", ":1"}, {"tcp", "bob:1"}, {"tcp", "10.0.0.1:1"}, {"tcp", ":65536"}, {"tcp", "1"}, {"unix", "/x"},
	} {
		if l, err := n.Listen(tt.network, tt.address); err == nil {
			l.Close()
			t.Errorf("Listen(%q, %q) succeeds", tt.network, tt.address)
		}
	}
	if _, err := n.Listen("tcp", "10.0.0.1:1"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("Listen on a stranger's address = %v", err)
	}
	if pc, err := n.ListenPacket("tcp", ":1"); err == nil {
		pc.Close()
		t.Error("ListenPacket on tcp succeeds")
	}
}

// Two nodes with one identity: the earlier stops, and says why.
func TestIdentityInUse(t *testing.T) {
	r := newRealm(t)
	id := r.issue("a", nil)
	first, second := r.node(id, nil), r.node(id, nil)
	if err := first.Start(r.context(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	err := second.Start(r.context(10 * time.Second))
	var loser *Node
	select {
	case <-first.Done():
		loser = first
	case <-second.Done():
		loser = second
	case <-time.After(15 * time.Second):
		if err == nil {
			t.Fatal("both nodes go on")
		}
	}
	if loser != nil {
		err = loser.Err()
	}
	if !errors.Is(err, control.ErrIdentityInUse) {
		t.Errorf("the loser says %v", err)
	}
}

// Shutdown delivers what was written before it.
func TestShutdownDelivers(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.pair()
	l, err := bob.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, c)
		got <- int(n)
	}()
	c, err := alice.Dial(r.context(10*time.Second), "tcp", "bob:7")
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := alice.Shutdown(r.context(10 * time.Second)); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if n := <-got; n != size {
		t.Errorf("%d of %d bytes arrived", n, size)
	}
	// A connection that stays open holds Shutdown until its context ends.
	l2, err := bob.Listen("tcp", ":9")
	if err != nil {
		t.Fatal(err)
	}
	carol := r.node(r.issue("carol", nil), nil)
	open, err := carol.Dial(r.context(10*time.Second), "tcp", "bob:9")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := carol.Shutdown(r.context(300 * time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown with an open connection = %v", err)
	}
	l2.Close()
}

func TestStartCloseCyclesLeakNothing(t *testing.T) {
	r := newRealm(t)
	bob := r.node(r.issue("bob", nil), nil)
	l, err := bob.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	id := r.issue("alice", nil)
	for range 3 {
		n := r.node(id, nil)
		c, err := n.Dial(r.context(15*time.Second), "tcp", "bob:7")
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := closes(t, "Close", n.Close); err != nil {
			t.Fatal(err)
		}
	}
}
