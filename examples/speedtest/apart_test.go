package main

import (
	"testing"
	"time"

	"github.com/veil-net/anchor/examples/internal/exampletest"
)

func TestMeasureApart(t *testing.T) {
	exampletest.Mark(t)
	r, err := measureApart(t.Context(), baselines[0], quick)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "raw" {
		t.Errorf("measured %q, want raw", r.Name)
	}
	for _, f := range figures {
		if f.of(r) <= 0 {
			t.Errorf("%s = %v, want a figure above 0", f.name, f.of(r))
		}
	}
}

func TestMeasureApartPassesFaultsOn(t *testing.T) {
	p := exampletest.Start(t, "-t", "200ms", "-only", "nobody")
	p.Fail(1, "speedtest: -only nobody")
	// The test binary without its mark is no speed test: what it prints is not a result.
	o := quick
	o.duration = time.Millisecond
	if r, err := measureApart(t.Context(), contender{name: "raw"}, o); err == nil {
		t.Errorf("a process that does not measure gave %+v", r)
	}
}
