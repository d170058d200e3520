package exampletest

import (
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

// Realm is a realm with a Master on loopback, in the test's process. Programs under test join it
// as any other would.
type Realm struct {
	Authority *identity.Authority
	Master    *control.Master

	t   testing.TB
	dir string
}

// NewRealm starts a Master and makes a realm; both end with the test.
func NewRealm(t testing.TB) *Realm {
	t.Helper()
	a, err := identity.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := control.StartMaster(control.MasterOptions{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return &Realm{Authority: a, Master: m, t: t, dir: t.TempDir()}
}

// Identity issues an identity, whose options change may adjust.
func (r *Realm) Identity(name string, change ...func(*identity.IssueOptions)) *identity.Identity {
	r.t.Helper()
	o := identity.IssueOptions{Name: name}
	for _, c := range change {
		c(&o)
	}
	id, err := r.Authority.Issue(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// Save writes an identity to a file of the test's and returns its path.
func (r *Realm) Save(id *identity.Identity) string {
	r.t.Helper()
	path := filepath.Join(r.dir, id.Certificate().Name+".anchor")
	if err := id.Save(path); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// Flags are -identity and -master for a program that joins as id.
func (r *Realm) Flags(id *identity.Identity) []string {
	r.t.Helper()
	return []string{"-identity", r.Save(id), "-master", r.Master.URL()}
}

// Node starts a node in the test's process, which closes with the test.
func (r *Realm) Node(name string) *anchor.Node {
	r.t.Helper()
	n, err := anchor.New(anchor.Config{Identity: r.Identity(name), Control: control.NATS(r.Master.URL())})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { n.Close() })
	if err := n.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// Serve serves HTTP on port 80 of a node until the test ends.
func (r *Realm) Serve(n *anchor.Node, h http.Handler) {
	r.t.Helper()
	l, err := n.Listen("tcp", ":80")
	if err != nil {
		r.t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with the server
	}()
	r.t.Cleanup(func() {
		s.Close()
		<-done
	})
}

// Silent returns the URL of a Master that accepts connections and says nothing.
func Silent(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "nats://" + l.Addr().String()
}
