package control_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/internal/controltest"
)

func startMaster(t *testing.T, o control.MasterOptions) *control.Master {
	t.Helper()
	m, err := control.StartMaster(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// use writes and reads over a fabric.
func use(t *testing.T, f control.Fabric) error {
	t.Helper()
	c, err := f.Connect(controltest.Context(t))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Put(controltest.Context(t), control.BucketRecords, "K", []byte("v")); err != nil {
		return err
	}
	_, err = c.Get(controltest.Context(t), control.BucketRecords, "K")
	return err
}

func TestMasterInProcess(t *testing.T) {
	m := startMaster(t, control.MasterOptions{})
	if m.Addr() != nil || m.WebsocketURL() != "" || m.URL() != "nats://in-process" {
		t.Errorf("listens: %v, %q, %q", m.Addr(), m.URL(), m.WebsocketURL())
	}
	if err := use(t, m.Fabric()); err != nil {
		t.Error(err)
	}
}

func TestMasterListens(t *testing.T) {
	m := startMaster(t, control.MasterOptions{Listen: "127.0.0.1:0", Websocket: "127.0.0.1:0"})
	if m.Addr().String() != strings.TrimPrefix(m.URL(), "nats://") {
		t.Errorf("address %v, URL %s", m.Addr(), m.URL())
	}
	for _, f := range []control.Fabric{control.NATS(m.URL()), control.NATS(m.WebsocketURL()), m.Fabric()} {
		if err := use(t, f); err != nil {
			t.Errorf("%v: %v", f, err)
		}
	}
	all := startMaster(t, control.MasterOptions{Listen: ":0"})
	if !strings.HasPrefix(all.URL(), "nats://127.0.0.1:") {
		t.Errorf("URL of a Master that listens everywhere: %s", all.URL())
	}
	if err := use(t, control.NATS(all.URL())); err != nil {
		t.Error(err)
	}
}

func TestMasterToken(t *testing.T) {
	m := startMaster(t, control.MasterOptions{Listen: "127.0.0.1:0", Token: "s3cret"})
	err := use(t, control.NATS(m.URL()))
	if !errors.Is(err, control.ErrConfig) || !strings.Contains(err.Error(), m.URL()) {
		t.Errorf("without a token: %v", err)
	}
	if err := use(t, control.NATS(m.URL(), control.NATSToken("s3cret"))); err != nil {
		t.Errorf("with the token: %v", err)
	}
	if err := use(t, m.Fabric()); err != nil {
		t.Errorf("in process: %v", err)
	}
}

func TestMasterTLS(t *testing.T) {
	server, pool := certificate(t)
	m := startMaster(t, control.MasterOptions{Listen: "127.0.0.1:0", Websocket: "127.0.0.1:0", TLS: server})
	if !strings.HasPrefix(m.URL(), "tls://") || !strings.HasPrefix(m.WebsocketURL(), "wss://") {
		t.Errorf("URLs %s and %s", m.URL(), m.WebsocketURL())
	}
	for _, url := range []string{m.URL(), m.WebsocketURL()} {
		if err := use(t, control.NATS(url, control.NATSTLS(&tls.Config{RootCAs: pool}))); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		if err := use(t, control.NATS(url)); err == nil {
			t.Errorf("%s: a certificate of nobody passes", url)
		}
	}
}

// certificate makes a server's TLS configuration for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

// TestMasterTwo: two Masters in one process share nothing.
func TestMasterTwo(t *testing.T) {
	one, two := startMaster(t, control.MasterOptions{}), startMaster(t, control.MasterOptions{})
	if err := use(t, one.Fabric()); err != nil {
		t.Fatal(err)
	}
	c, err := two.Fabric().Connect(controltest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Get(controltest.Context(t), control.BucketRecords, "K"); !errors.Is(err, control.ErrNoKey) {
		t.Errorf("what one Master was told stands in the other: %v", err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := use(t, two.Fabric()); err != nil {
		t.Errorf("after the end of the other: %v", err)
	}
}

func TestMasterStore(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		m := startMaster(t, control.MasterOptions{StoreDir: dir})
		c, err := m.Fabric().Connect(controltest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			err = c.Put(controltest.Context(t), control.BucketRecords, "K", []byte("v"))
		} else {
			_, err = c.Get(controltest.Context(t), control.BucketRecords, "K")
		}
		if err != nil {
			t.Errorf("run %d: %v", i, err)
		}
		c.Close()
		m.Close()
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error("Close removed a folder that is the caller's")
	}
}

// TestMasterLeavesNothing: no goroutine and no folder, after use, after a failure, and after neither.
func TestMasterLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, o := range map[string]control.MasterOptions{
		"port in use":           {Listen: taken.Addr().String()},
		"websocket port in use": {Listen: "127.0.0.1:0", Websocket: taken.Addr().String()},
		"no port":               {Listen: "127.0.0.1"},
		"port is a word":        {Listen: "127.0.0.1:nats"},
		"port out of range":     {Websocket: "127.0.0.1:65536"},
		"address of nobody":     {Listen: "192.0.2.1:4222"},
		"store is a file":       {StoreDir: file},
	} {
		m, err := control.StartMaster(o)
		if err == nil {
			m.Close()
			t.Errorf("%s: no error", what)
			continue
		}
		t.Logf("%s: %v", what, err)
	}
	m := startMaster(t, control.MasterOptions{Listen: "127.0.0.1:0"})
	if err := use(t, m.Fabric()); err != nil {
		t.Error(err)
	}
	// A client that is still connected when the Master ends.
	c, err := m.Fabric().Connect(controltest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if m.Err() != nil {
		t.Error(m.Err())
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { m.Close() })
	}
	wg.Wait()
	<-m.Done()
	if !errors.Is(m.Err(), net.ErrClosed) {
		t.Error(m.Err())
	}
	<-c.Done()
	c.Close()
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	goleak.VerifyNone(t, before)
}

// TestMasterLogs: the server's log goes where it is told, and nowhere else.
func TestMasterLogs(t *testing.T) {
	var buf bytes.Buffer
	var mu sync.Mutex
	m := startMaster(t, control.MasterOptions{
		Listen: "127.0.0.1:0",
		Logger: slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return buf.Write(b)
		}), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	m.Close()
	mu.Lock()
	defer mu.Unlock()
	if s := buf.String(); !strings.Contains(s, "Listening for client connections") || !strings.Contains(s, "part=master") {
		t.Errorf("log: %q", s)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestMasterMaxPayload: a Master too small for a record is a fault of configuration that Start reports.
func TestMasterMaxPayload(t *testing.T) {
	m := startMaster(t, control.MasterOptions{MaxPayload: 4096})
	a := controltest.NewRealm(t).New(t, m.Fabric(), "a")
	err := a.Start(controltest.Context(t), nil)
	if !errors.Is(err, control.ErrConfig) || !errors.Is(err, control.ErrTooLarge) || !strings.Contains(err.Error(), "4096") {
		t.Error(err)
	}
	// With room for a record but not for the longest message, bodies are shorter.
	m = startMaster(t, control.MasterOptions{MaxPayload: 32 << 10})
	r := controltest.NewRealm(t)
	b, c := r.Join(t, m.Fabric(), "b"), r.Join(t, m.Fabric(), "c")
	n := b.MaxBody()
	if n < 20000 || n > 32<<10 {
		t.Errorf("bodies of %d bytes", n)
	}
	if err := b.Send(context.Background(), c.ID(), control.TopicData, make([]byte, n+1)); !errors.Is(err, control.ErrTooLarge) {
		t.Error(err)
	}
	b.MustSend(t, c.ID(), control.TopicData, make([]byte, n))
	if got := c.Receive(t); len(got.Body) != n {
		t.Errorf("%d bytes", len(got.Body))
	}
}
