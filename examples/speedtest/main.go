// Speedtest measures two Anchor nodes in this process, over loopback, and beside them, in the
// same run, the baselines of package peers. Run it with -h for what it measures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/veil-net/anchor/examples/internal/member"
	"github.com/veil-net/anchor/examples/speedtest/peers"
)

const usage = `Usage: speedtest [-t 5s] [-P 4] [-json] [-against raw,wireguard] [-only NAME]

Measures two Anchor nodes in one process over loopback. With -against it does the same work in
the same run, each in a process of its own, on
  raw        a pion data channel: 37,500-byte messages, reliable, unordered, zero checksum;
             its sender waits above 1 MiB buffered; a dial makes a new peer connection
  wireguard  wireguard-go with its in-process network stack, MTU 1420

What is measured, in this order:
  connect_ms      first dial between two nodes that are up, until the first byte came back;
                  new identities, empty caches
  rss_mb          resident memory of the process, after 3 s with one idle connection
  goroutines      goroutines that the two nodes and that connection hold then
  rtt_p50_us,     time for 64 bytes to come back, 2,000 times one after the other
  rtt_p99_us
  dial_ms_p50     50 dials, one after the other, between nodes that have talked
  tput_mbps       one stream, 256 KiB writes, counted where they arrive, after 1 s of warm-up
  cpu_s_per_gbit  processor seconds (user and system) per gigabit during that stream
  tput4_mbps      the same over -P streams at once

The table shows each figure and, for a baseline, its ratio to Anchor's. With -json each
contender is one JSON object on a line of its own.
`

// contender is something that can be measured.
type contender struct {
	name string
	open func(context.Context, peers.Handler) (peers.Pair, error)
}

// baselines are what -against knows.
var baselines = []contender{
	{"raw", func(_ context.Context, h peers.Handler) (peers.Pair, error) { return peers.Raw(h) }},
	{"wireguard", func(_ context.Context, h peers.Handler) (peers.Pair, error) { return peers.WireGuard(h) }},
}

func main() {
	member.Main("speedtest", func(ctx context.Context, args []string) error { return run(ctx, args, os.Stdout) })
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("speedtest", flag.ContinueOnError)
	var (
		duration = flags.Duration("t", 5*time.Second, "how long each throughput run is measured")
		streams  = flags.Int("P", 4, "streams of the many-stream run")
		asJSON   = flags.Bool("json", false, "print one JSON object a line instead of a table")
		against  = flags.String("against", "", "baselines to measure too: raw, wireguard, or both with a comma")
		only     = flags.String("only", "", "measure this one alone: anchor, raw or wireguard")
	)
	if err := member.Parse(flags, args, usage, 0, 0); err != nil {
		return err
	}
	contenders, err := choose(*against, *only)
	switch {
	case err != nil:
		return err
	case *duration <= 0 || *streams <= 0:
		return errors.New("-t and -P must be above 0")
	}
	o := defaults
	o.duration, o.streams = *duration, *streams
	how := measure
	if len(contenders) > 1 {
		how = measureApart
	}
	return compare(ctx, contenders, o, how, newReport(stdout, *asJSON))
}

// choose returns what to measure: the one contender that only names, or else Anchor and the
// baselines in the comma-separated list against, in its order.
func choose(against, only string) ([]contender, error) {
	if only != "" {
		all := slices.Concat(subject, baselines)
		i := slices.IndexFunc(all, func(c contender) bool { return c.name == only })
		switch {
		case against != "":
			return nil, errors.New("-only and -against exclude each other")
		case i < 0:
			return nil, fmt.Errorf("-only %s: there is nothing of that name", only)
		}
		return all[i : i+1], nil
	}
	chosen := slices.Clone(subject)
	for name := range strings.SplitSeq(against, ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		i := slices.IndexFunc(baselines, func(c contender) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-against %s: there is no baseline of that name", name)
		}
		if slices.ContainsFunc(chosen, func(c contender) bool { return c.name == name }) {
			return nil, fmt.Errorf("-against names %s twice", name)
		}
		chosen = append(chosen, baselines[i])
	}
	return chosen, nil
}

// compare measures one contender after the other and reports each as soon as it is known.
func compare(ctx context.Context, contenders []contender, o options, how measurer, out report) error {
	for _, c := range contenders {
		r, err := how(ctx, c, o)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if err := out.add(r); err != nil {
			return err
		}
	}
	return out.end()
}
