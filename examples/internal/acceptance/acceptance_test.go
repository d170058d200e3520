//go:build unix

package acceptance

import (
	"crypto/rand"
	"crypto/sha256"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/veil-net/anchor/identity"
)

const memoryLimit = 300 << 20

// publish writes a file of random bytes where serve finds it, and returns its hash.
func (l *lab) publish(name string, size int64) [32]byte {
	l.t.Helper()
	f, err := os.Create(l.path("public/" + name))
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, h), rand.Reader, size); err != nil {
		l.t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// pipe is an output whose reading end the test holds.
func (l *lab) pipe() (r, w *os.File) {
	l.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func hashFile(t *testing.T, name string) [32]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// A file arrives whole, in bounded memory, and no stage drops anything.
func TestTransfer(t *testing.T) {
	size := int64(32 << 20)
	if *long {
		size = 1 << 30
	}
	l := newLab(t)
	want := l.publish("file", size)
	server, client := l.issue("serve"), l.issue("alice")
	master := l.startMaster()
	serve := l.startServe(server)
	began := time.Now()
	get := l.get(client, nil, "file", "-o", l.path("out"))
	peak := 0
	for running := true; running; {
		select {
		case <-get.over:
			running = false
		case <-time.After(100 * time.Millisecond):
			peak = max(peak, get.peakMemory())
		}
	}
	if status := get.wait(time.Second); status != 0 {
		t.Fatalf("get: exit status %d", status)
	}
	took := time.Since(began)
	if hashFile(t, l.path("out")) != want {
		t.Error("the file that arrived is another")
	}
	t.Logf("%d MiB in %v: %.0f Mbit/s", size>>20, took.Round(time.Millisecond), float64(size)*8/1e6/took.Seconds())
	for name, rss := range map[string]int{"master": master.peakMemory(), "serve": serve.peakMemory(), "get": peak} {
		t.Logf("%s: %d MiB resident at most", name, rss>>20)
		if rss > memoryLimit {
			t.Errorf("%s took %d MiB", name, rss>>20)
		}
	}
	serve.stop()
	for name, p := range map[string]*process{"serve": serve, "get": get} {
		if !strings.Contains(p.stderr.String(), "msg=status drops=0") {
			t.Errorf("%s does not say that it dropped nothing", name)
		}
	}
}

// While a transfer runs the Master is killed, stays away, and comes back with an empty store:
// the transfer never stops, and then a third node can join.
func TestMasterDies(t *testing.T) {
	away := 3 * time.Second
	if *long {
		away = 10 * time.Second
	}
	l := newLab(t)
	size := int64(64 << 20)
	if *long {
		size = 1 << 30
	}
	want := l.publish("file", size)
	small := l.publish("small", 1000)
	server, client, third := l.issue("serve"), l.issue("alice"), l.issue("carol")
	master := l.startMaster()
	l.startServe(server)
	r, w := l.pipe()
	get := l.get(client, w, "file")
	w.Close()

	// The reader sets the pace, so that the transfer lasts over the outage.
	var (
		h       = sha256.New()
		buf     = make([]byte, 256<<10)
		pace    = time.Duration(float64(away+3*time.Second) / float64(size>>18))
		begun   = make(chan struct{})
		read    = make(chan error, 1)
		longest time.Duration
	)
	go func() {
		for last, n := time.Now(), 0; ; n++ {
			m, err := io.ReadFull(r, buf)
			h.Write(buf[:m])
			if n > 0 {
				longest = max(longest, time.Since(last)-pace)
			} else {
				close(begun)
			}
			if err != nil {
				if err == io.EOF || err == io.ErrUnexpectedEOF {
					err = nil
				}
				read <- err
				return
			}
			last = time.Now()
			time.Sleep(pace)
		}
	}()
	<-begun
	master.kill()
	time.Sleep(away)
	select {
	case <-get.over:
		t.Fatal("the transfer was over too soon to show anything")
	default:
	}
	l.startMaster()
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if status := get.wait(10 * time.Second); status != 0 {
		t.Fatalf("get: exit status %d", status)
	}
	if [32]byte(h.Sum(nil)) != want {
		t.Error("the file that arrived is another")
	}
	t.Logf("the longest the transfer paused: %v", longest)
	if longest > 2*time.Second {
		t.Errorf("the transfer paused for %v", longest)
	}
	began := time.Now()
	again := l.get(third, nil, "small", "-o", l.path("small"))
	if status := again.wait(30 * time.Second); status != 0 {
		t.Fatalf("the third node cannot fetch: exit status %d", status)
	}
	t.Logf("the third node took %v", time.Since(began))
	if hashFile(t, l.path("small")) != small {
		t.Error("the third node got something else")
	}
}

// serve is killed and started again with its identity: a new fetch succeeds soon.
func TestServeDies(t *testing.T) {
	l := newLab(t)
	want := l.publish("file", 100_000)
	server, client := l.issue("serve"), l.issue("alice")
	l.startMaster()
	serve := l.startServe(server)
	if status := l.get(client, nil, "file", "-o", l.path("out")).wait(30 * time.Second); status != 0 {
		t.Fatalf("first get: exit status %d", status)
	}
	serve.kill()
	l.startServe(server)
	began := time.Now()
	if status := l.get(client, nil, "file", "-o", l.path("out")).wait(30 * time.Second); status != 0 {
		t.Fatalf("get after the restart: exit status %d", status)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("get took %v after the restart", took)
	} else {
		t.Logf("get took %v after the restart", took)
	}
	if hashFile(t, l.path("out")) != want {
		t.Error("something else arrived")
	}
}

// Those who have no business here are refused soon, are told why, and serve sees none of them.
func TestStrangers(t *testing.T) {
	l := newLab(t)
	l.publish("file", 1000)
	server, client, late := l.issue("serve"), l.issue("alice"), l.issue("bob")
	l.startMaster()
	serve := l.startServe(server)
	refused := func(t *testing.T, identity string, texts ...string) {
		t.Helper()
		began := time.Now()
		p := l.get(identity, nil, "file")
		if status := p.wait(30 * time.Second); status != 1 {
			t.Fatalf("exit status %d, want 1", status)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		said := p.stderr.String()
		last := said[strings.LastIndex(strings.TrimSpace(said), "\n")+1:]
		t.Logf("get says: %s", strings.TrimSpace(last))
		for _, text := range texts {
			if !strings.Contains(last, text) {
				t.Errorf("get says %q, want %q in it", last, text)
			}
		}
	}
	t.Run("another realm", func(t *testing.T) {
		l.run("authority", "init", "-dir", l.path("elsewhere"), "-realm", "elsewhere")
		file := l.path("mallory.anchor")
		l.run("authority", "issue", "-dir", l.path("elsewhere"), "-name", "mallory", "-out", file)
		refused(t, file, "realm", "elsewhere")
	})
	t.Run("expired", func(t *testing.T) {
		a, err := identity.OpenAuthority(l.path("realm"))
		if err != nil {
			t.Fatal(err)
		}
		id, err := a.Issue(identity.IssueOptions{Name: "old", NotBefore: time.Now().Add(-72 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		file := l.path("old.anchor")
		if err := id.Save(file); err != nil {
			t.Fatal(err)
		}
		l.own(file)
		refused(t, file, "expired")
	})
	t.Run("revoked", func(t *testing.T) {
		l.run("authority", "revoke", "-dir", l.path("realm"), "-master", l.master, "alice")
		refused(t, client, "revoked")
	})
	if strings.Contains(serve.stdout.String(), "msg=request") {
		t.Error("serve accepted one of them")
	}
	t.Run("others go on", func(t *testing.T) {
		// Issued before the revocation and after it: the realm has a new secret since.
		for _, identity := range []string{late, l.issue("dave")} {
			if status := l.get(identity, nil, "file", "-o", l.path("out")).wait(30 * time.Second); status != 0 {
				t.Errorf("%s: exit status %d", identity, status)
			}
		}
	})
}
