package anchor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/tether"
)

func TestTCP(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.pair()
	l, err := bob.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	_, ip6 := bob.Addrs()
	ip4, _ := bob.Addrs()
	for _, tt := range []struct{ network, host string }{
		{"tcp", "bob"}, {"tcp", "bob.anchor"}, {"tcp", "BOB"}, {"tcp4", "bob"}, {"tcp6", "bob"},
		{"tcp", ip6.String()}, {"tcp", ip4.String()}, {"tcp", bob.ID().String()},
	} {
		t.Run(tt.network+" "+tt.host[:3], func(t *testing.T) {
			c, err := alice.Dial(r.context(10*time.Second), tt.network, net.JoinHostPort(tt.host, "7"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			sent := make([]byte, 100_000)
			rand.Read(sent)
			go c.Write(sent)
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("echo: %v, equal %v", err, bytes.Equal(got, sent))
			}
		})
	}
	for _, n := range []*Node{alice, bob} {
		if s := n.Status(); s.Drops() != 0 {
			t.Errorf("%s dropped: %+v", s.Name, s.Stages)
		}
	}
}

func TestHTTPAndWhoIs(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.pair()
	l, err := bob.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		addr, err := net.ResolveTCPAddr("tcp", req.RemoteAddr)
		if err != nil {
			t.Error(err)
		}
		p, err := bob.WhoIs(addr)
		fmt.Fprintf(w, "%s %s %v", p.Name, p.ID, err)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) })
	defer wg.Wait()
	defer srv.Close()
	resp, err := alice.HTTPClient().Get("http://bob/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("alice %s <nil>", alice.ID()); string(body) != want {
		t.Errorf("bob sees %q, want %q", body, want)
	}
	if _, err := alice.WhoIs(&net.TCPAddr{IP: net.IPv4(10, 1, 1, 1), Port: 1}); err == nil {
		t.Error("WhoIs knows a stranger")
	}
	if p, err := alice.WhoIs(&net.IPAddr{IP: alice.cert.IPv6.AsSlice()}); err != nil || p.Name != "alice" {
		t.Errorf("WhoIs of oneself = %v, %v", p, err)
	}
}

func TestPingPeersStatus(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.pair()
	rtt, err := alice.Ping(r.context(10*time.Second), "bob")
	if err != nil || rtt <= 0 || rtt > 5*time.Second {
		t.Fatalf("Ping = %v, %v", rtt, err)
	}
	if _, err := alice.Ping(r.context(10*time.Second), "10.7.0.2"); err != nil {
		t.Fatalf("Ping by IPv4: %v", err)
	}
	if _, err := alice.Ping(r.context(10*time.Second), "alice"); err != nil {
		t.Fatalf("Ping to oneself: %v", err)
	}
	peers := alice.Peers()
	if len(peers) != 1 || peers[0].Name != "bob" || peers[0].Path != tether.PathDirect || peers[0].Suite == "" {
		t.Fatalf("Peers = %+v", peers)
	}
	if age := time.Since(peers[0].Heard); age > 5*time.Second {
		t.Errorf("heard %v ago", age)
	}
	s := alice.Status()
	if !s.Running || !s.Master || s.Name != "alice" || s.ID != alice.ID() || s.Drops() != 0 {
		t.Errorf("Status = %+v", s)
	}
	stages := map[string]bool{}
	for _, st := range s.Stages {
		stages[st.Name] = st.In > 0 || st.Out > 0
	}
	for _, name := range []string{"control", "egress", "ingress", "netstack", "route", "stream", "tether"} {
		if !stages[name] {
			t.Errorf("stage %s has counted nothing: %v", name, stages)
		}
	}
	if _, ok := bob.Status().stage("ingress"); !ok {
		t.Error("bob has no stage ingress")
	}
}

func (s Status) stage(name string) (StageStatus, bool) {
	for _, st := range s.Stages {
		if st.Name == name {
			return st, true
		}
	}
	return StageStatus{}, false
}

func TestUDP(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.pair()
	pc, err := bob.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(buf[:n], from)
		}
	})
	defer wg.Wait()
	defer pc.Close()
	for _, network := range []string{"udp4", "udp6"} {
		c, err := alice.Dial(r.context(10*time.Second), network, "bob:53")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, size := range []int{0, 1, 1171, 1172, 1173, 1199, 1200, 1201, 1232, 1280, 1472, 8192, 32000, 65487, 65507} {
			sent := make([]byte, size)
			rand.Read(sent)
			if _, err := c.Write(sent); err != nil {
				t.Fatalf("%s %d: %v", network, size, err)
			}
			got := make([]byte, 65535)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, err := c.Read(got)
			if err != nil || !bytes.Equal(got[:n], sent) {
				t.Fatalf("%s %d: got %d bytes, %v", network, size, n, err)
			}
		}
		if _, err := c.Write(make([]byte, 65536)); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("%s 65536: %v", network, err)
		}
	}
}

func TestConnConformance(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.pair()
	l, err := bob.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		accepted := make(chan net.Conn, 1)
		go func() {
			c, _ := l.Accept()
			accepted <- c
		}()
		c1, err = alice.Dial(context.Background(), "tcp", fmt.Sprintf("bob:%d", port))
		if err != nil {
			return nil, nil, nil, err
		}
		c2 = <-accepted
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
}

func TestErrorsOfConnections(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.pair()
	ctx := r.context(20 * time.Second)
	if _, err := alice.Dial(ctx, "tcp", "bob:81"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial of a closed port = %v", err)
	}
	l, err := bob.Listen("tcp", "bob:9")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Listen("tcp", ":9"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen on a port in use = %v", err)
	}
	c, err := alice.Dial(ctx, "tcp", "bob:9")
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(-time.Second))
	var ne net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("Read after the deadline = %v", err)
	}
	c.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close = %v", err)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close = %v", err)
	}
	if _, err := alice.Dial(ctx, "tcp", "bob:9"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial after the listener closed = %v", err)
	}
}

func TestOneselfIsReachable(t *testing.T) {
	r := newRealm(t)
	alice := r.node(r.issue("alice", nil), nil)
	l, err := alice.Listen("tcp", ":0") // starts the node
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"alice", "localhost", alice.ID().String(), alice.cert.IPv6.String()} {
		c, err := alice.Dial(r.context(5*time.Second), "tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		c.Write([]byte("hello"))
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		c.Close()
	}
}

// A Dial made before the peer is up waits for it.
func TestDialWaitsForThePeer(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.node(r.issue("alice", nil), nil), r.node(r.issue("bob", nil), nil)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			c, err := alice.Dial(r.context(15*time.Second), "tcp", "bob:7")
			if err != nil {
				t.Errorf("Dial: %v", err)
				return
			}
			defer c.Close()
			c.Write([]byte("x"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Errorf("echo: %v", err)
			}
		})
	}
	time.Sleep(time.Second) // the case needs a peer that comes later
	l, err := bob.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	wg.Wait()
}

func TestUnknownName(t *testing.T) {
	r := newRealm(t)
	alice := r.node(r.issue("alice", nil), func(c *Config) { c.LookupWait = 300 * time.Millisecond })
	began := time.Now()
	_, err := alice.Dial(r.context(30*time.Second), "tcp", "nobody:80")
	if !errors.Is(err, ErrUnknownName) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("Dial = %v", err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
}

// A certificate of the other realm cannot even be seen; the error says whose realm was asked.
func TestForeignRealm(t *testing.T) {
	r := newRealm(t)
	_, bob := r.pair()
	l, err := bob.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other, err := identity.NewAuthority("other")
	if err != nil {
		t.Fatal(err)
	}
	id, err := other.Issue(identity.IssueOptions{Name: "mallory"})
	if err != nil {
		t.Fatal(err)
	}
	mallory := r.node(id, func(c *Config) { c.LookupWait = 300 * time.Millisecond })
	if _, err := mallory.Dial(r.context(10*time.Second), "tcp", "bob:80"); !errors.Is(err, ErrUnknownName) || !strings.Contains(err.Error(), `realm "other"`) {
		t.Errorf("Dial by name = %v", err)
	}
	_, ip6 := bob.Addrs()
	if _, err := mallory.Dial(r.context(10*time.Second), "tcp", net.JoinHostPort(ip6.String(), "80")); !errors.Is(err, syscall.EHOSTUNREACH) || !strings.Contains(err.Error(), "another realm") {
		t.Errorf("Dial by address = %v", err)
	}
}

func TestExpiredIdentity(t *testing.T) {
	r := newRealm(t)
	id := r.issue("late", func(o *identity.IssueOptions) {
		o.NotBefore = time.Now().Add(-48 * time.Hour)
		o.NotAfter = time.Now().Add(-24 * time.Hour)
	})
	n := r.node(id, nil)
	if err := n.Start(r.context(5 * time.Second)); !errors.Is(err, identity.ErrExpired) {
		t.Errorf("Start = %v", err)
	}
}

// A revocation that is published ends what is open and forbids what comes.
func TestRevocation(t *testing.T) {
	r := newRealm(t)
	alice, bob := r.pair()
	l, err := bob.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if c, err := l.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := alice.Dial(r.context(10*time.Second), "tcp", "bob:7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("x"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	list, err := r.authority.Revoke("alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.Revoke(r.context(5*time.Second), list); err != nil {
		t.Fatal(err)
	}
	select {
	case <-alice.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the revoked node goes on")
	}
	if peers := bob.Peers(); len(peers) != 0 {
		t.Errorf("bob still has %+v", peers)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("bob's connection with the revoked node goes on")
	}
	if err := alice.Err(); !errors.Is(err, identity.ErrRevoked) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Err = %v", err)
	}
	if _, err := alice.Dial(r.context(time.Second), "tcp", "bob:7"); !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("Dial of a revoked node = %v", err)
	}
	again := r.node(alice.cfg.Identity, nil)
	if err := again.Start(r.context(10 * time.Second)); !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("Start of a revoked node = %v", err)
	}
	if _, err := bob.Dial(r.context(3*time.Second), "tcp", "alice:7"); err == nil {
		t.Error("Dial to a revoked node succeeds")
	}
}

func TestAllow(t *testing.T) {
	r := newRealm(t)
	group := func(g string) func(*identity.IssueOptions) {
		return func(o *identity.IssueOptions) { o.Groups = []string{g} }
	}
	red := r.node(r.issue("red", group("red")), nil)
	also := r.node(r.issue("crimson", group("red")), nil)
	blue := r.node(r.issue("blue", group("blue")), nil)
	l, err := red.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	c, err := also.Dial(r.context(10*time.Second), "tcp", "red:7")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := blue.Dial(r.context(10*time.Second), "tcp", "red:7"); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("Dial across groups = %v", err)
	}
	// A node that ignores its own rule is refused by the other's.
	blue2 := r.node(r.issue("navy", group("blue")), func(c *Config) { c.Allow = func(Peer) bool { return true } })
	if _, err := blue2.Dial(r.context(2*time.Second), "tcp", "red:7"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial against the other's rule = %v", err)
	}
}
