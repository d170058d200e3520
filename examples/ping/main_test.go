package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/veil-net/anchor/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestPing(t *testing.T) {
	r := exampletest.NewRealm(t)
	bob := r.Node("bob")
	flags := r.Flags(r.Identity("alice"))

	p := exampletest.Start(t, append(flags, "-c", "2", "bob")...)
	p.Succeed()
	lines := strings.Split(strings.TrimSpace(p.Stdout()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "seq=1 time=") || !strings.Contains(lines[1], "path=direct") ||
		!strings.Contains(lines[2], "bob: 2 sent, 2 answered, min/avg/max ") {
		t.Errorf("it printed %q", p.Stdout())
	}
	exampletest.Start(t, append(flags, "-c", "1", bob.ID().String())...).Succeed()

	p = exampletest.Start(t, append(flags, "bob")...)
	p.Line("seq=2 ")
	p.Signal(os.Interrupt)
	p.Succeed()
	if !strings.Contains(p.Stdout(), " answered, min/avg/max ") {
		t.Errorf("interrupted, it printed %q", p.Stdout())
	}
}

func TestNoAnswer(t *testing.T) {
	r := exampletest.NewRealm(t)
	flags := r.Flags(r.Identity("alice"))
	exampletest.Start(t, append(flags, "-wait", "1s", "-c", "1", "nobody")...).Fail(1, "ping: ", "nobody")
	exampletest.Start(t, append(flags, "not a name")...).Fail(1, "ping: ", "not a name")
	exampletest.Start(t, flags...).Fail(1, "argument is missing")
}

func TestTally(t *testing.T) {
	var sum tally
	for _, rtt := range []time.Duration{3, 1, 2} {
		sum.add(rtt)
	}
	if sum.min != 1 || sum.max != 3 || sum.sum != 6 || sum.sent != 3 || sum.got != 3 {
		t.Errorf("%+v", sum)
	}
}
