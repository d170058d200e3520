package anchor

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
)

// Nodes meet over a Master that repeats, reorders, delays and loses messages.
func TestUnrulyMaster(t *testing.T) {
	r := newRealm(t)
	mem := control.NewMemory(control.MemoryOptions{})
	mem.SetRules(control.Rule{Delay: 2 * time.Millisecond, Jitter: 30 * time.Millisecond, Drop: 0.1, Duplicate: 0.3})
	use := func(c *Config) { c.Control = mem }
	var nodes []*Node
	for i := range 3 {
		n := r.node(r.issue(fmt.Sprintf("n%d", i), nil), use)
		l, err := n.Listen("tcp", ":7")
		if err != nil {
			t.Fatal(err)
		}
		echo(t, l)
		nodes = append(nodes, n)
	}
	var wg sync.WaitGroup
	for _, from := range nodes {
		for _, to := range nodes {
			wg.Go(func() {
				c, err := from.Dial(r.context(30*time.Second), "tcp", to.Name()+":7")
				if err != nil {
					t.Errorf("%s to %s: %v", from.Name(), to.Name(), err)
					return
				}
				defer c.Close()
				c.Write([]byte("hello"))
				if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
					t.Errorf("%s to %s: %v", from.Name(), to.Name(), err)
				}
			})
		}
	}
	wg.Wait()
	for _, n := range nodes {
		if peers := len(n.Peers()); peers != len(nodes)-1 {
			t.Errorf("%s has %d peers", n.Name(), peers)
		}
	}
}

// While the Master is away, what is up goes on, and anchors that know each other meet anew.
func TestMasterAway(t *testing.T) {
	r := newRealm(t)
	mem := control.NewMemory(control.MemoryOptions{})
	use := func(c *Config) { c.Control = mem }
	alice, bob := r.node(r.issue("alice", nil), use), r.node(r.issue("bob", nil), use)
	l, err := bob.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	c, err := alice.Dial(r.context(10*time.Second), "tcp", "bob:7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mem.Stop()
	for range 3 {
		c.Write([]byte("hello"))
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
	}
	again, err := alice.Dial(r.context(5*time.Second), "tcp", "bob:7")
	if err != nil {
		t.Fatalf("Dial of a known peer without the Master: %v", err)
	}
	again.Close()
	if alice.Status().Master {
		t.Error("Status still shows the Master")
	}
	_, err = alice.Dial(r.context(500*time.Millisecond), "tcp", "carol:7")
	if err == nil {
		t.Fatal("Dial of an unknown name without the Master succeeds")
	}
	if want := control.ErrNotReady; !errors.Is(err, want) {
		t.Errorf("Dial without the Master = %v, want %v in it", err, want)
	}
	mem.Restart(true) // with an empty store
	carol := r.node(r.issue("carol", nil), use)
	third, err := carol.Dial(r.context(20*time.Second), "tcp", "bob:7")
	if err != nil {
		t.Fatalf("a new node after the Master's return: %v", err)
	}
	third.Close()
}
