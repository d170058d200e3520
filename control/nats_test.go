package control_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/internal/controltest"
)

// TestStartFails: whatever is wrong with the Master, Start returns within its context, says what and
// where, and leaves nothing running.
func TestStartFails(t *testing.T) {
	silent := controltest.Listen(t)
	refused := controltest.FreePort(t)
	hang := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	r := controltest.NewRealm(t)
	for _, c := range []struct {
		name   string
		fabric control.Fabric
		final  bool // no waiting for the context
		words  []string
	}{
		{"refused", control.NATS("nats://" + refused), false, []string{"nats://" + refused, "connection refused"}},
		{"silent", control.NATS("nats://" + silent), false, []string{"nats://" + silent, "has not answered"}},
		{"silent websocket", control.NATS("ws://" + silent), false, []string{"ws://" + silent}},
		{"silent with TLS", control.NATS("wss://" + silent), false, []string{"wss://" + silent}},
		{"several", control.NATS("nats://" + refused + ", nats://" + refused), false, []string{"refused"}},
		{"dialer", control.NATS("nats://h:1", control.NATSDialer(hang)), false, []string{"nats://h:1"}},
		{"empty", control.NATS(""), true, []string{"want nats://"}},
		{"scheme", control.NATS("http://h:1"), true, []string{"http://h:1", "want nats://"}},
		{"no host", control.NATS("nats://:4222"), true, []string{"want nats://"}},
		{"password", control.NATS("nats://u:s3cret@" + refused), false, []string{"nats://u:xxxxx@" + refused}},
		{"malformed with password", control.NATS("nats://u:s3cret@[h"), true, []string{"malformed URL"}},
		{"no seed", control.NATS("nats://h:1", control.NATSNKeySeed("/nonexistent")), true, []string{"NKey", "/nonexistent"}},
		{"no credentials", control.NATS("nats://"+refused, control.NATSCredentials("/nonexistent")), false, []string{"nats://" + refused}},
		{"memory", controltest.Memory{Memory: stopped()}.Fabric("x"), false, []string{"memory:x", "down"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			a := r.New(t, c.fabric, strings.ToLower(strings.ReplaceAll(c.name, " ", "-")))
			limit := 300 * time.Millisecond
			if c.final {
				limit = 20 * time.Second
			}
			short, cancel := context.WithTimeout(controltest.Context(t), limit)
			defer cancel()
			began := time.Now()
			err := a.Start(short, nil)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			if err == nil || errors.Is(err, control.ErrConfig) != c.final {
				t.Fatalf("error %v", err)
			}
			if !c.final && (!errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, control.ErrNotReady)) {
				t.Errorf("the context's cause is not in: %v", err)
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error %q tells the password", err)
			}
			if !errors.Is(a.Err(), err) {
				t.Errorf("Err is %v", a.Err())
			}
			<-a.Done()
		})
	}
}

func stopped() *control.Memory {
	m := control.NewMemory(control.MemoryOptions{})
	m.Stop()
	return m
}

// TestSilentServer: a connection that is accepted and never answered is given up by itself too.
func TestSilentServer(t *testing.T) {
	if !*control.Long {
		t.Skip("waits for a time-out of 5 s: run with -long")
	}
	_, err := control.NATS("nats://" + controltest.Listen(t)).Connect(controltest.Context(t))
	if err == nil || !strings.Contains(err.Error(), "did not answer for 5s") {
		t.Error(err)
	}
}

// TestWithoutJetStream: the error says what the server lacks.
func TestWithoutJetStream(t *testing.T) {
	path, err := exec.LookPath("nats-server")
	if err != nil {
		path = "/usr/sbin/nats-server"
		if _, err := os.Stat(path); err != nil {
			t.Skip("nats-server is not installed: neither in PATH nor in /usr/sbin")
		}
	}
	addr := controltest.FreePort(t)
	host, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(path, "-a", host, "-p", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	f := control.NATS("nats://" + addr)
	controltest.Eventually(t, 20*time.Second, "an answer about JetStream", func() bool {
		_, err = f.Connect(controltest.Context(t))
		return err != nil && !errors.Is(err, syscall.ECONNREFUSED)
	})
	if !strings.Contains(err.Error(), "JetStream is not enabled") || !strings.Contains(err.Error(), addr) {
		t.Error(err)
	}
}

// TestOnlyMemory: a server that has no room for files keeps the buckets in memory.
func TestOnlyMemory(t *testing.T) {
	p := controltest.StartProcess(t)
	conf := filepath.Join(t.TempDir(), "conf")
	text := fmt.Sprintf(`jetstream { store_dir: %q }
accounts { A { jetstream: { max_mem: 64MB, max_file: 0 }, users: [ { user: u, password: p } ] } }
`, t.TempDir())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.RestartWith("-c", conf)
	if err := use(t, control.NATS(p.URL(), control.NATSUserPassword("u", "p"))); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(p.URL(), nats.UserInfo("u", "p"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(controltest.Context(t), "KV_records")
	if err != nil || s.CachedInfo().Config.Storage != jetstream.MemoryStorage {
		t.Errorf("the records are not in memory: %v", err)
	}
}

// TestForeignBucket: a bucket of somebody else is neither used nor changed.
func TestForeignBucket(t *testing.T) {
	m := startMaster(t, control.MasterOptions{Listen: "127.0.0.1:0", StoreDir: t.TempDir()})
	nc, err := nats.Connect(m.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := controltest.Context(t)
	if _, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "presence", TTL: time.Hour, History: 5}); err != nil {
		t.Fatal(err)
	}
	_, err = m.Fabric().Connect(ctx)
	if !errors.Is(err, control.ErrConfig) || !strings.Contains(err.Error(), "presence") || !strings.Contains(err.Error(), "1h") {
		t.Error(err)
	}
	kv, err := js.KeyValue(ctx, "presence")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := kv.Status(ctx); err != nil || s.TTL() != time.Hour || s.History() != 5 {
		t.Errorf("the bucket was changed: %v, %v", s, err)
	}
}

// TestNATSOptions: the way out reaches nats.go, and cannot break what the package depends on.
func TestNATSOptions(t *testing.T) {
	m := startMaster(t, control.MasterOptions{Listen: "127.0.0.1:0", Token: "t"})
	f := control.NATS(m.URL(), control.NATSName("mine"), control.NATSReplicas(1), control.NATSOptions(
		nats.Token("t"), nats.NoCallbacksAfterClientClose(), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(false),
	))
	c, err := f.Connect(controltest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
}

// TestDialer: the dialer gets every address, and what it returns is used.
func TestDialer(t *testing.T) {
	m := startMaster(t, control.MasterOptions{Listen: "127.0.0.1:0"})
	asked := make(chan string, 1)
	f := control.NATS("nats://somewhere.invalid:4222", control.NATSDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		asked <- network + " " + address
		return new(net.Dialer).DialContext(ctx, "tcp", m.Addr().String())
	}))
	if err := use(t, f); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "tcp somewhere.invalid:4222" {
		t.Error(got)
	}
}

// TestKilledProcess: kill -9 of the server, 10 s away in the long form, and back with an empty store.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	p := controltest.StartProcess(t)
	away := 500 * time.Millisecond
	if *control.Long {
		away = 10 * time.Second
	}
	r := controltest.NewRealm(t)
	a, b := r.Join(t, p.Fabric(""), "a"), r.Join(t, p.Fabric(""), "b")
	p.Kill()
	<-time.After(away)
	p.Restart(true)
	began := time.Now()
	c := r.Join(t, p.Fabric(""), "c")
	controltest.Eventually(t, 20*time.Second, "c finds a and b by name", func() bool {
		_, errA := c.Lookup(controltest.Context(t), control.Key{Name: "a"}, false)
		_, errB := c.Lookup(controltest.Context(t), control.Key{Name: "b"}, false)
		return errA == nil && errB == nil
	})
	t.Logf("after %v away, found %v after the return", away, time.Since(began).Round(time.Millisecond))
	c.SendUntil(t, a, control.TopicSignal, []byte("1"))
	b.SendUntil(t, c, control.TopicSignal, []byte("2"))
}
