//go:build unix

package acceptance

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var long = flag.Bool("long", false, "run the full forms: 1 GiB, a Master that is away for 10 s")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if programs.dir != "" {
			os.RemoveAll(programs.dir)
		}
		os.Exit(status)
	}))
}

// programs are built once for all tests.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

func buildPrograms() {
	if programs.dir, programs.err = os.MkdirTemp("", "anchor-programs"); programs.err != nil {
		return
	}
	build := exec.Command("go", "build", "-o", programs.dir+"/", "../../authority", "../../master", "../../serve", "../../get", "../../ping")
	if out, err := build.CombinedOutput(); err != nil {
		programs.err = fmt.Errorf("%w\n%s", err, out)
		return
	}
	programs.err = os.Chmod(programs.dir, 0o755)
}

// lab is a folder with a realm and its files, that a user without rights can use.
type lab struct {
	t      *testing.T
	dir    string
	master string // URL
	cred   *syscall.Credential
}

// newLab makes a realm.
func newLab(t *testing.T) *lab {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command to build the programs with")
	}
	if os.Getenv("HOME") == "" && os.Getenv("GOCACHE") == "" {
		t.Skip("there is no build cache: HOME is not set")
	}
	dir, err := os.MkdirTemp("", "anchor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &lab{t: t, dir: dir, master: "nats://" + freeAddr(t)}
	if programs.once.Do(buildPrograms); programs.err != nil {
		t.Fatal(programs.err)
	}
	if os.Getuid() == 0 {
		l.dropRights()
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(l.path("public"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.run("authority", "init", "-dir", l.path("realm"), "-realm", "lab")
	return l
}

// dropRights makes the programs run as nobody, who owns the folder.
func (l *lab) dropRights() {
	l.t.Helper()
	u, err := user.Lookup("nobody")
	if err != nil {
		l.t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		l.t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		l.t.Fatal(err)
	}
	l.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(l.dir, int(uid), int(gid)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// issue makes an identity and returns its file.
func (l *lab) issue(name string, more ...string) string {
	l.t.Helper()
	file := l.path(name + ".anchor")
	l.run("authority", append([]string{"issue", "-dir", l.path("realm"), "-name", name, "-out", file}, more...)...)
	return file
}

// process is a running program.
type process struct {
	l      *lab
	cmd    *exec.Cmd
	stdout lines
	stderr lines
	over   chan struct{}
	once   sync.Once
}

// start starts a program; stdout, if not nil, is where its output goes in place of stdout.
func (l *lab) start(program string, out *os.File, args ...string) *process {
	l.t.Helper()
	p := &process{l: l, cmd: exec.Command(filepath.Join(programs.dir, program), args...), over: make(chan struct{})}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: l.cred}
	p.cmd.Dir = l.dir
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if out != nil {
		p.cmd.Stdout = out
	}
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.over)
	}()
	l.t.Cleanup(func() {
		p.kill()
		if l.t.Failed() {
			l.t.Logf("%s %s\n%s%s", program, strings.Join(args, " "), tail(p.stdout.String()), tail(p.stderr.String()))
		}
	})
	return p
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

// kill ends the process as a crash would.
func (p *process) kill() {
	p.once.Do(func() { p.cmd.Process.Kill() })
	<-p.over
}

// stop ends the process politely.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.wait(10 * time.Second)
}

// wait waits for the end and returns the exit status.
func (p *process) wait(d time.Duration) int {
	p.l.t.Helper()
	select {
	case <-p.over:
	case <-time.After(d):
		p.l.t.Fatalf("%s has not ended within %v", filepath.Base(p.cmd.Path), d)
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until the program has printed a text.
func (p *process) says(text string) {
	p.l.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(p.stdout.String()+p.stderr.String(), text) {
		if time.Now().After(deadline) {
			p.l.t.Fatalf("%s has not said %q", filepath.Base(p.cmd.Path), text)
		}
		time.Sleep(10 * time.Millisecond) // polling another process
	}
}

// peakMemory is the highest resident size so far, in bytes; 0 where that cannot be read.
func (p *process) peakMemory() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kb, _ := strconv.Atoi(f[1])
			return kb << 10
		}
	}
	return 0
}

// run runs a program to its end, which must be good.
func (l *lab) run(program string, args ...string) {
	l.t.Helper()
	p := l.start(program, nil, args...)
	if status := p.wait(time.Minute); status != 0 {
		l.t.Fatalf("%s %v: exit status %d: %s", program, args, status, p.stderr.String())
	}
}

func (l *lab) startMaster() *process {
	l.t.Helper()
	p := l.start("master", nil, "-listen", strings.TrimPrefix(l.master, "nats://"))
	p.says("master")
	return p
}

func (l *lab) startServe(identity string) *process {
	l.t.Helper()
	p := l.start("serve", nil, "-v", "-identity", identity, "-master", l.master, "-dir", l.path("public"))
	p.says("msg=serving")
	return p
}

// get starts a fetch.
func (l *lab) get(identity string, out *os.File, file string, more ...string) *process {
	l.t.Helper()
	args := append([]string{"-v", "-identity", identity, "-master", l.master}, more...)
	return l.start("get", out, append(args, "http://serve/"+file)...)
}

// lines collects output. Safe for concurrent use.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *lines) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *lines) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// own gives a file to the user that the programs run as.
func (l *lab) own(file string) {
	l.t.Helper()
	if l.cred == nil {
		return
	}
	if err := os.Chown(file, int(l.cred.Uid), int(l.cred.Gid)); err != nil {
		l.t.Fatal(err)
	}
}
