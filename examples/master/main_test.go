package main

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/examples/internal/exampletest"
	"github.com/veil-net/anchor/identity"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

// url starts a Master and returns where it is.
func url(t *testing.T, args ...string) (*exampletest.Process, string) {
	t.Helper()
	p := exampletest.Start(t, append(args, "-listen", "127.0.0.1:0")...)
	return p, strings.TrimPrefix(p.Line("master: nats://"), "master: ")
}

// join starts a node of its own realm at a Master and closes it.
func join(t *testing.T, url string) {
	t.Helper()
	a, err := identity.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.Issue(identity.IssueOptions{Name: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := anchor.New(anchor.Config{Identity: id, Control: control.NATS(url)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestMasterServesUntilSignal(t *testing.T) {
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p, u := url(t)
		join(t, u)
		p.Signal(s)
		p.Succeed()
		if p.Stderr() != "" {
			t.Errorf("after %v: %s", s, p.Stderr())
		}
	}
}

func TestStoreIsKept(t *testing.T) {
	dir := t.TempDir()
	p, u := url(t, "-store", dir)
	join(t, u)
	p.Signal(os.Interrupt)
	p.Succeed()
	if kept, err := os.ReadDir(dir); err != nil || len(kept) == 0 {
		t.Errorf("nothing is in the folder of -store: %v", err)
	}
	again, u := url(t, "-store", dir)
	join(t, u)
	again.Signal(os.Interrupt)
	again.Succeed()
}

func TestMistakes(t *testing.T) {
	_, u := url(t)
	address := strings.TrimPrefix(u, "nats://")
	exampletest.Start(t, "-listen", address).Fail(1, "master: ", "address already in use")
	exampletest.Start(t, "-listen", "nonsense").Fail(1, "master: ")
	exampletest.Start(t, "nonsense").Fail(1, "nonsense")
	help := exampletest.Start(t, "-h")
	help.Succeed()
	if !strings.Contains(help.Stderr(), "-listen") {
		t.Errorf("-h printed %q", help.Stderr())
	}
}
