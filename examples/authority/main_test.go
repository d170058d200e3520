package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/examples/internal/exampletest"
	"github.com/veil-net/anchor/identity"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

// succeed runs the program and returns what it printed.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	p := exampletest.Start(t, args...)
	p.Succeed()
	return p.Stdout()
}

func TestLifeOfARealm(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "realm")
	out := filepath.Join(t.TempDir(), "alice.anchor")
	if got := succeed(t, "init", "-dir", dir, "-realm", "Example Ltd"); !strings.Contains(got, "realm Example Ltd, id ") {
		t.Errorf("init printed %q", got)
	}
	exampletest.Start(t, "init", "-dir", dir, "-realm", "another").Fail(1, "authority: ")

	issued := succeed(t, "issue", "-dir", dir, "-name", "alice", "-out", out,
		"-group", "staff", "-group", "admins", "-ipv4", "10.7.0.1", "-days", "30")
	id, err := identity.Load(out, identity.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := id.Certificate()
	if got := c.NotAfter.Sub(c.NotBefore); got != 30*24*time.Hour {
		t.Errorf("in force for %v, want 30 days", got)
	}
	shown := succeed(t, "show", out)
	if shown != issued {
		t.Errorf("issue printed\n%s\nshow\n%s", issued, shown)
	}
	for _, want := range []string{"alice\n", c.ID.String(), "Example Ltd", "10.7.0.1\n", c.IPv6.String(), "admins, staff"} {
		if !strings.Contains(shown, want) {
			t.Errorf("show lacks %q:\n%s", want, shown)
		}
	}

	exampletest.Start(t, "issue", "-dir", dir, "-name", "bob", "-out", out).Fail(1, "there already")
	bob := filepath.Join(t.TempDir(), "bob.anchor")
	exampletest.Start(t, "issue", "-dir", dir, "-name", "alice", "-out", bob).Fail(1, "in use")
	exampletest.Start(t, "issue", "-dir", dir, "-name", "bob", "-out", bob, "-ipv4", "10.7.0.1").Fail(1, "in use")
	if _, err := os.Stat(bob); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a failed issue left a file: %v", err)
	}

	if got := succeed(t, "revoke", "-dir", dir, "alice"); !strings.Contains(got, "alice is revoked") || !strings.Contains(got, "-master") {
		t.Errorf("revoke printed %q, want how to publish it too", got)
	}
	exampletest.Start(t, "revoke", "-dir", dir, "alice").Fail(1, "no certificate in force")
	if got := succeed(t, "show", dir); !strings.Contains(got, "alice") || !strings.Contains(got, "revoked") {
		t.Errorf("show of the realm printed %q", got)
	}
	succeed(t, "issue", "-dir", dir, "-name", "alice", "-out", bob)
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("no identity"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ args, want string }{
		{"", "missing"},
		{"frobnicate", "frobnicate"},
		{"init -dir " + dir, "-realm is missing"},
		{"init -realm r", "-dir is missing"},
		{"issue -dir " + dir + " -name a", "-out is missing"},
		{"issue -dir " + dir + " -name a -out " + dir + "/a.anchor", "no such file"},
		{"issue -dir " + dir + " -name a -out " + dir + "/a.anchor -days 0", "-days"},
		{"issue -ipv4 nonsense", "ipv4"},
		{"show " + file, "identity"},
		{"show " + dir + "/none", "no such file"},
		{"revoke -dir " + dir, "whom?"},
		{"revoke alice", "-dir is missing"},
		{"-nonsense", "nonsense"},
	} {
		exampletest.Start(t, strings.Fields(test.args)...).Fail(1, "authority: ", test.want)
	}
}

func TestHelp(t *testing.T) {
	for _, command := range []string{"", "init", "issue", "show", "revoke"} {
		p := exampletest.Start(t, strings.Fields(command+" -h")...)
		p.Succeed()
		if !strings.Contains(p.Stderr(), "Usage:") || p.Stdout() != "" {
			t.Errorf("authority %s -h printed %q", command, p.Stderr())
		}
	}
}

// TestPublish revokes without the Master, publishes that, and expects that a member which was there
// before hears of it, although the realm secret has changed. Then it revokes and publishes at once.
func TestPublish(t *testing.T) {
	r := exampletest.NewRealm(t)
	dir := filepath.Join(t.TempDir(), "realm")
	if err := r.Authority.Save(dir); err != nil {
		t.Fatal(err)
	}
	member := r.Identity("witness")
	serials := []uint64{r.Identity("alice").Certificate().Serial, r.Identity("bob").Certificate().Serial}
	if err := r.Authority.Save(dir); err != nil {
		t.Fatal(err)
	}

	verifier := identity.NewVerifier(member, nil)
	session, err := identity.NewSession(member, identity.SessionOptions{MTU: identity.MinMTU})
	if err != nil {
		t.Fatal(err)
	}
	witness := control.New(control.NATS(r.Master.URL()), session, verifier, control.Options{})
	defer witness.Close()
	if err := witness.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}

	succeed(t, "revoke", "-dir", dir, "alice")
	got := succeed(t, "revoke", "-dir", dir, "-master", r.Master.URL())
	if !strings.Contains(got, "published") {
		t.Errorf("revoke printed %q", got)
	}
	await(t, verifier, serials[:1])
	succeed(t, "revoke", "-dir", dir, "-master", r.Master.URL(), "bob")
	checkStored(t, dir, serials)
	if _, err := os.Stat(filepath.Join(dir, publisherFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the publisher's identity is still there: %v", err)
	}
}

// await waits until a verifier holds a list with the serials.
func await(t *testing.T, v *identity.Verifier, serials []uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		l, all := v.Current(), true
		for _, s := range serials {
			all = all && l != nil && l.Revoked(s)
		}
		if all {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the member holds %+v, want a list of %v", l, serials)
		}
	}
}

func checkStored(t *testing.T, dir string, serials []uint64) {
	t.Helper()
	a, err := identity.OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range serials {
		if !a.Revocations().Revoked(s) {
			t.Errorf("serial %d is not in the realm's list", s)
		}
	}
}

func TestPublishWithoutMaster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "realm")
	succeed(t, "init", "-dir", dir, "-realm", "r")
	succeed(t, "issue", "-dir", dir, "-name", "alice", "-out", filepath.Join(t.TempDir(), "a.anchor"))
	exampletest.Start(t, "revoke", "-dir", dir, "-master", "nonsense://", "alice").Fail(1, "kept in "+dir)
	if got := succeed(t, "show", dir); !strings.Contains(got, "revoked") {
		t.Errorf("the revocation is lost: %s", got)
	}
}
