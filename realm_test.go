package anchor

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// realm is a realm with a Master in this process.
type realm struct {
	t         testing.TB
	authority *identity.Authority
	master    *control.Master
}

func newRealm(t testing.TB) *realm {
	t.Helper()
	a, err := identity.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := control.StartMaster(control.MasterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return &realm{t: t, authority: a, master: m}
}

func (r *realm) issue(name string, change func(*identity.IssueOptions)) *identity.Identity {
	r.t.Helper()
	o := identity.IssueOptions{Name: name}
	if change != nil {
		change(&o)
	}
	id, err := r.authority.Issue(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// node makes a node that closes with the test.
func (r *realm) node(id *identity.Identity, change func(*Config)) *Node {
	r.t.Helper()
	c := Config{Identity: id, Control: r.master.Fabric()}
	if change != nil {
		change(&c)
	}
	n, err := New(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { n.Close() })
	return n
}

// pair starts alice and bob, both with an IPv4 address.
func (r *realm) pair() (alice, bob *Node) {
	r.t.Helper()
	ipv4 := func(a string) func(*identity.IssueOptions) {
		return func(o *identity.IssueOptions) { o.IPv4 = netip.MustParseAddr(a) }
	}
	alice = r.node(r.issue("alice", ipv4("10.7.0.1")), nil)
	bob = r.node(r.issue("bob", ipv4("10.7.0.2")), nil)
	for _, n := range []*Node{alice, bob} {
		if err := n.Start(r.context(10 * time.Second)); err != nil {
			r.t.Fatal(err)
		}
	}
	return alice, bob
}

func (r *realm) context(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	r.t.Cleanup(cancel)
	return ctx
}

// echo serves an echo listener until the test ends.
func echo(t testing.TB, l net.Listener) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				io.Copy(c, c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
}
