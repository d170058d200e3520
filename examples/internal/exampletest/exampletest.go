// Package exampletest runs example programs as processes in their own tests. The test binary is
// the program: started again with a mark in its environment it runs main instead of tests, so
// that nothing has to be built and the race detector sees the program too.
package exampletest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// mark in the environment makes the test binary be the program.
const mark = "ANCHOR_EXAMPLE_RUN_MAIN"

// patience bounds every wait: a test that hangs says in what.
const patience = 60 * time.Second

// Main is for TestMain. It runs the program if this process was started by Start, else the
// tests, and checks that they leave no goroutine behind.
func Main(m *testing.M, main func()) {
	if os.Getenv(mark) != "" {
		main()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// Mark makes processes of the test binary that the code under test starts be the program too,
// until the test ends.
func Mark(t *testing.T) {
	t.Helper()
	t.Setenv(mark, "1")
}

// Process is a running example program.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout output
	stderr output
	over   chan struct{} // closed when the process has ended
	err    error         // set before over is closed
}

// Start starts the program under test. The process is killed when the test ends before it.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Process{t: t, cmd: exec.CommandContext(ctx, self, args...), over: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), mark+"=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.over)
	}()
	t.Cleanup(func() {
		cancel()
		<-p.over
		if t.Failed() {
			t.Logf("%s\nstandard output:\n%s\nstandard error:\n%s", strings.Join(args, " "), p.Stdout(), p.Stderr())
		}
	})
	return p
}

// Stdout is what the process has printed to its standard output.
func (p *Process) Stdout() string { return p.stdout.String() }

// Stderr is what the process has printed to its standard error.
func (p *Process) Stderr() string { return p.stderr.String() }

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Line waits for a line with text in it on the standard output and returns it.
func (p *Process) Line(text string) string {
	p.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline, over := time.After(patience), false; ; {
		for line := range strings.Lines(p.Stdout()) {
			if strings.Contains(line, text) && strings.HasSuffix(line, "\n") {
				return strings.TrimSuffix(line, "\n")
			}
		}
		if over {
			p.t.Fatalf("the process ended without a line with %q", text)
		}
		select {
		case <-tick.C:
		case <-p.over:
			over = true
		case <-deadline:
			p.t.Fatalf("no line with %q within %v", text, patience)
		}
	}
}

// Wait waits for the end of the process and returns its exit status, -1 if a signal ended it.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.over:
	case <-time.After(patience):
		p.t.Fatalf("the process did not end within %v", patience)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Succeed waits for the end of the process and expects exit status 0.
func (p *Process) Succeed() {
	p.t.Helper()
	if status := p.Wait(); status != 0 {
		p.t.Fatalf("exit status %d", status)
	}
}

// Fail waits for the end of the process, and expects the exit status and one line on the standard
// error in which each of the texts occurs.
func (p *Process) Fail(status int, texts ...string) {
	p.t.Helper()
	if got := p.Wait(); got != status {
		p.t.Errorf("exit status %d, want %d", got, status)
	}
	line := p.Stderr()
	if strings.Count(line, "\n") != 1 {
		p.t.Errorf("standard error is not one line: %q", line)
	}
	for _, text := range texts {
		if !strings.Contains(line, text) {
			p.t.Errorf("standard error is %q, want a line with %q", line, text)
		}
	}
}

// output is a buffer that is written and read at once.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
