// Package controltest holds what tests of the control channel share: Masters of every kind that can
// be killed and frozen, realms with members, and the conformance suites for fabrics and channels.
package controltest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
)

// Server is a Master under test.
type Server interface {
	// Fabric returns the fabric by which one member connects.
	Fabric(side string) control.Fabric
	// Kill ends the Master as abruptly as its kind allows.
	Kill()
	// Restart starts it again at the same place, with an empty store or the old one.
	Restart(empty bool)
	// KeepsStore says that Restart(false) finds what was stored.
	KeepsStore() bool
}

// Kind is a kind of Master.
type Kind struct {
	Name  string
	Start func(t testing.TB) Server
}

// Kinds are all kinds of Master: in memory, embedded, embedded and listening, and a nats-server of its
// own, which is skipped if there is none.
func Kinds() []Kind {
	return []Kind{
		{"memory", func(t testing.TB) Server { return NewMemory(t, control.MemoryOptions{}) }},
		{"in-process", func(t testing.TB) Server { return newEmbedded(t, "", "") }},
		{"listening", func(t testing.TB) Server { return newEmbedded(t, FreePort(t), "") }},
		{"websocket", func(t testing.TB) Server { return newEmbedded(t, "", FreePort(t)) }},
		{"process", func(t testing.TB) Server { return StartProcess(t) }},
	}
}

// Memory is a Server on a control.Memory.
type Memory struct{ *control.Memory }

// NewMemory starts one and stops it when the test ends.
func NewMemory(t testing.TB, o control.MemoryOptions) Memory {
	m := Memory{control.NewMemory(o)}
	t.Cleanup(m.Stop)
	return m
}

// Fabric implements Server.
func (m Memory) Fabric(side string) control.Fabric { return m.Side(side) }

// Kill implements Server.
func (m Memory) Kill() { m.Stop() }

// KeepsStore implements Server.
func (m Memory) KeepsStore() bool { return true }

// embedded is a Server on a control.Master.
type embedded struct {
	t testing.TB
	o control.MasterOptions

	mu sync.Mutex
	m  *control.Master
}

func newEmbedded(t testing.TB, listen, websocket string) *embedded {
	s := &embedded{t: t, o: control.MasterOptions{Listen: listen, Websocket: websocket, StoreDir: t.TempDir()}}
	s.start()
	t.Cleanup(s.Kill)
	return s
}

func (s *embedded) start() {
	m, err := control.StartMaster(s.o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.m = m
	s.mu.Unlock()
}

func (s *embedded) master() *control.Master {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m
}

// Fabric implements Server.
func (s *embedded) Fabric(string) control.Fabric {
	switch {
	case s.o.Websocket != "":
		return control.NATS("ws://" + s.o.Websocket)
	case s.o.Listen != "":
		return control.NATS("nats://" + s.o.Listen)
	}
	return following{s}
}

// following reaches whichever Master runs now.
type following struct{ s *embedded }

func (f following) Connect(ctx context.Context) (control.Conn, error) {
	return f.s.master().Fabric().Connect(ctx)
}
func (f following) String() string { return f.s.master().Fabric().String() }

// Kill implements Server.
func (s *embedded) Kill() { s.master().Close() }

// Restart implements Server.
func (s *embedded) Restart(empty bool) {
	s.Kill()
	if empty {
		s.o.StoreDir = s.t.TempDir()
	}
	s.start()
}

// KeepsStore implements Server.
func (s *embedded) KeepsStore() bool { return true }

// Process is a Server on a nats-server of its own.
type Process struct {
	t    testing.TB
	path string
	addr string
	dir  string
	args []string // instead of -js and the store
	cmd  *exec.Cmd
}

// StartProcess starts Debian's nats-server, or skips the test if there is none.
func StartProcess(t testing.TB) *Process {
	path, err := exec.LookPath("nats-server")
	if err != nil {
		path = "/usr/sbin/nats-server"
		if _, err := os.Stat(path); err != nil {
			t.Skip("nats-server is not installed: neither in PATH nor in /usr/sbin")
		}
	}
	p := &Process{t: t, path: path, addr: FreePort(t), dir: t.TempDir()}
	p.start()
	t.Cleanup(p.Kill)
	return p
}

func (p *Process) start() {
	host, port, _ := net.SplitHostPort(p.addr)
	args := p.args
	if args == nil {
		args = []string{"-js", "-sd", p.dir}
	}
	p.cmd = exec.Command(p.path, append([]string{"-a", host, "-p", port}, args...)...)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	Eventually(p.t, 20*time.Second, "nats-server listens", func() bool {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// URL is where the server listens.
func (p *Process) URL() string { return "nats://" + p.addr }

// Fabric implements Server.
func (p *Process) Fabric(string) control.Fabric { return control.NATS(p.URL()) }

// Signal sends the server a signal.
func (p *Process) Signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// Kill implements Server.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// Restart implements Server.
func (p *Process) Restart(empty bool) {
	p.Kill()
	if empty {
		p.dir = p.t.TempDir()
	}
	p.start()
}

// RestartWith starts the server again with other arguments than -js and a store.
func (p *Process) RestartWith(args ...string) {
	p.Kill()
	p.args = args
	p.start()
}

// KeepsStore implements Server.
func (p *Process) KeepsStore() bool { return true }

// FreePort returns "127.0.0.1:port" with a port that was free a moment ago.
func FreePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Eventually waits until cond is true, and fails the test if it is not within a time that only
// a fault exceeds.
func Eventually(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// Context returns a context that ends with the test, or after 20 s.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Second, errors.New("the test takes too long"))
	t.Cleanup(cancel)
	return ctx
}

// Listen returns a listener that accepts connections and never says anything, and its address.
func Listen(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	return fmt.Sprint(l.Addr())
}
