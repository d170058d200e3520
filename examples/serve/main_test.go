package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/veil-net/anchor/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestServe(t *testing.T) {
	r := exampletest.NewRealm(t)
	public, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	for path, content := range map[string]string{
		filepath.Join(public, "hello.txt"): "hello from bob",
		secret:                             "not for you",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, filepath.Join(public, "way-out")); err != nil {
		t.Fatal(err)
	}
	p := exampletest.Start(t, append(r.Flags(r.Identity("bob")), "-dir", public)...)
	if line := p.Line("serving"); !strings.Contains(line, "name=bob") {
		t.Errorf("it says %q", line)
	}

	alice := r.Node("alice")
	for _, test := range []struct {
		path   string
		status int
		body   string
	}{
		{"hello.txt", http.StatusOK, "hello from bob"},
		{"", http.StatusOK, "hello.txt"},
		{"none", http.StatusNotFound, ""},
		{"way-out", http.StatusInternalServerError, ""},
	} {
		response, err := alice.HTTPClient().Get("http://bob/" + test.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.status || !strings.Contains(string(body), test.body) {
			t.Errorf("GET /%s: %s, %v: %s; want %d with %q", test.path, response.Status, err, body, test.status, test.body)
		}
		if strings.Contains(string(body), "not for you") {
			t.Error("a link leads out of the folder")
		}
	}
	line := p.Line("path=/hello.txt")
	if !strings.Contains(line, "name=alice") || !strings.Contains(line, "id="+alice.ID().String()) {
		t.Errorf("the log does not say who asked: %s", line)
	}
	p.Signal(syscall.SIGTERM)
	p.Succeed()
	if p.Stderr() != "" {
		t.Errorf("standard error: %s", p.Stderr())
	}
}

func TestMistakes(t *testing.T) {
	r := exampletest.NewRealm(t)
	bob := r.Flags(r.Identity("bob"))
	dir := t.TempDir()
	for _, test := range []struct {
		args []string
		want string
	}{
		{bob, "-dir is missing"},
		{append(bob, "-dir", filepath.Join(dir, "none")), "no such file"},
		{[]string{"-dir", dir}, "-identity is required"},
		{append(bob, "-dir", dir, "-listen", "nonsense"), "nonsense"},
		{append(bob, "-dir", dir, "extra"), "extra"},
	} {
		exampletest.Start(t, test.args...).Fail(1, "serve: ", test.want)
	}
}
