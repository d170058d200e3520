package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/veil-net/anchor/examples/internal/exampletest"
	"github.com/veil-net/anchor/identity"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

// site is what bob serves: a file, one that breaks off, and one that never ends.
func site(file []byte) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "file", time.Time{}, bytes.NewReader(file))
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "only the beginning")
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "wait")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return mux
}

func TestGet(t *testing.T) {
	r := exampletest.NewRealm(t)
	file := make([]byte, 4<<20)
	rand.Read(file)
	r.Serve(r.Node("bob"), site(file))
	flags := r.Flags(r.Identity("alice"))
	out := filepath.Join(t.TempDir(), "out")

	t.Run("to a file", func(t *testing.T) {
		p := exampletest.Start(t, append(flags, "-o", out, "http://bob/file")...)
		p.Succeed()
		got, err := os.ReadFile(out)
		if err != nil || sha256.Sum256(got) != sha256.Sum256(file) {
			t.Errorf("%d bytes came, %v; want the %d of the file", len(got), err, len(file))
		}
		if p.Stdout() != "" || p.Stderr() != "" {
			t.Errorf("with nobody watching it printed %q and %q", p.Stdout(), p.Stderr())
		}
	})
	t.Run("to standard output", func(t *testing.T) {
		p := exampletest.Start(t, append(flags, "http://bob.anchor/file")...)
		p.Succeed()
		if p.Stdout() != string(file) {
			t.Errorf("%d bytes came, want the %d of the file", len(p.Stdout()), len(file))
		}
	})
	t.Run("failures", func(t *testing.T) {
		before, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		exampletest.Start(t, append(flags, "-o", out, "http://bob/none")...).Fail(1, "get: ", "404")
		if after, err := os.ReadFile(out); err != nil || !bytes.Equal(after, before) {
			t.Errorf("a fetch that failed changed the file that was there: %v", err)
		}
		exampletest.Start(t, append(flags, "-o", out, "http://bob/broken")...).Fail(1, "get: ", "after 18 bytes", "unexpected EOF")
		exampletest.Start(t, append(flags, "http://bob:81/")...).Fail(1, "get: ", "refused")
		exampletest.Start(t, append(flags, "-wait", "1s", "http://bob/silent")...).Fail(1, "get: ", "no answer within 1s")
		exampletest.Start(t, append(flags, "://")...).Fail(1, "get: ")
		exampletest.Start(t, flags...).Fail(1, "get: ", "argument is missing")
	})
	t.Run("interrupt", func(t *testing.T) {
		p := exampletest.Start(t, append(flags, "http://bob/endless")...)
		for deadline := time.Now().Add(30 * time.Second); p.Stdout() != "wait"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("nothing came within 30 s: %q", p.Stdout())
			}
		}
		p.Signal(syscall.SIGINT)
		p.Fail(1, "get: ", "after 4 bytes", "interrupt")
	})
}

// TestWhoCannotGet: each fails within 10 s and says which fault it is.
func TestWhoCannotGet(t *testing.T) {
	r := exampletest.NewRealm(t)
	asked := make(chan string, 1)
	r.Serve(r.Node("bob"), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.RemoteAddr:
		default:
		}
	}))
	elsewhere, err := identity.NewAuthority("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := elsewhere.Issue(identity.IssueOptions{Name: "foreigner"})
	if err != nil {
		t.Fatal(err)
	}
	expired := r.Identity("expired", func(o *identity.IssueOptions) {
		o.NotBefore, o.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	})
	corrupt := filepath.Join(t.TempDir(), "corrupt.anchor")
	content, err := os.ReadFile(r.Save(r.Identity("corrupt")))
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(corrupt, content, 0o600); err != nil {
		t.Fatal(err)
	}
	readable := r.Save(r.Identity("readable"))
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		flags []string
		want  string
	}{
		"another realm":    {r.Flags(foreign), "same realm"},
		"expired":          {r.Flags(expired), "expired"},
		"corrupt file":     {[]string{"-identity", corrupt, "-master", r.Master.URL()}, "corrupt"},
		"readable file":    {[]string{"-identity", readable, "-master", r.Master.URL()}, "others"},
		"no file":          {[]string{"-identity", corrupt + "x", "-master", r.Master.URL()}, "no such file"},
		"no Master":        {[]string{"-identity", r.Save(r.Identity("a")), "-wait", "2s", "-master", "nats://127.0.0.1:1"}, "127.0.0.1:1"},
		"silent Master":    {[]string{"-identity", r.Save(r.Identity("b")), "-wait", "2s", "-master", exampletest.Silent(t)}, "no answer within 2s"},
		"malformed Master": {[]string{"-identity", r.Save(r.Identity("c")), "-master", "nonsense://x"}, "nonsense"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			exampletest.Start(t, append(test.flags, "http://bob/")...).Fail(1, "get: ", test.want)
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Cleanup(func() {
		select {
		case who := <-asked:
			t.Errorf("bob was asked by %s", who)
		default:
		}
	})
}
