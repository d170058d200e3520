package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/veil-net/anchor/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

// quick does every step of the work with little of it.
var quick = options{
	duration: 200 * time.Millisecond, warmUp: 100 * time.Millisecond, idle: 10 * time.Millisecond,
	streams: 2, writeSize: 256 << 10, roundTrips: 50, dials: 3,
}

// TestContenders runs the real thing, short, and reads what it prints as a script would.
func TestContenders(t *testing.T) {
	o := quick
	o.duration = time.Second // a loaded machine may deliver nothing for some hundred milliseconds
	everybody, err := choose("raw,wireguard", "")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := compare(t.Context(), everybody, o, measure, newReport(&out, true)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(everybody) {
		t.Fatalf("%d lines, want one for each of %d contenders:\n%s", len(lines), len(everybody), out.String())
	}
	for i, line := range lines {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if got["name"] != everybody[i].name {
			t.Errorf("line %d has name %v, want %s", i, got["name"], everybody[i].name)
		}
		for _, f := range figures {
			if v, ok := got[f.name].(float64); !ok || v <= 0 {
				t.Errorf("%s: %s = %v, want a figure above 0", everybody[i].name, f.name, got[f.name])
			}
		}
		if len(got) != len(figures)+1 {
			t.Errorf("%d fields, want the name and the %d figures of the table: %s", len(got), len(figures), line)
		}
	}
}

func TestHelp(t *testing.T) {
	p := exampletest.Start(t, "-h")
	p.Succeed()
	for _, f := range figures {
		if !strings.Contains(p.Stderr(), f.name) {
			t.Errorf("-h does not explain %s", f.name)
		}
	}
	for _, want := range []string{"-t ", "-P ", "-json", "-against", "raw", "wireguard"} {
		if !strings.Contains(p.Stderr(), want) {
			t.Errorf("-h does not mention %s", want)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"-t 0s", "above 0"},
		{"-P 0", "above 0"},
		{"-against quic", "quic"},
		{"-against raw,raw", "twice"},
		{"-only quic", "quic"},
		{"-only raw -against raw", "exclude"},
		{"bob", "bob"},
		{"-nonsense", "nonsense"},
	} {
		err := run(t.Context(), strings.Fields(test.args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("run %s = %v, want an error that contains %q", test.args, err, test.want)
		}
	}
}

func TestChoose(t *testing.T) {
	chosen, err := choose(" wireguard, raw", "")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range chosen[len(subject):] {
		names = append(names, c.name)
	}
	if got := strings.Join(names, " "); got != "wireguard raw" {
		t.Errorf("chosen: %s; want the order of the flag", got)
	}
	for _, only := range []string{"anchor", "raw", "wireguard"} {
		if chosen, err := choose("", only); err != nil || len(chosen) != 1 || chosen[0].name != only {
			t.Errorf("-only %s chooses %v, %v", only, chosen, err)
		}
	}
}

func TestInterrupt(t *testing.T) {
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	o := quick
	o.warmUp = time.Hour // only the interrupt ends it
	time.AfterFunc(500*time.Millisecond, func() { cancel(cause) })
	if err := compare(ctx, baselines[:1], o, measure, newReport(io.Discard, true)); !errors.Is(err, cause) {
		t.Errorf("compare = %v, want what ended its context", err)
	}
}
