// Ping measures the round-trip time to a peer with ICMP echo over the overlay.
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/examples/internal/member"
)

const usage = `Usage: ping -identity FILE [-master URL] [-c N] NAME

Sends ICMP echo requests over the overlay to a peer, by name, overlay address or anchor id, one
a second, and shows round-trip times and the path in use. It ends after N, or on SIGINT.
`

func main() { member.Main("ping", run) }

func run(ctx context.Context, args []string) error {
	var common member.Flags
	flags := flag.NewFlagSet("ping", flag.ContinueOnError)
	common.Register(flags)
	count := flags.Int("c", 0, "stop after this many; 0 means never")
	wait := flags.Duration("wait", 10*time.Second, "how long to wait for the first answer; later ones have 2 s")
	if err := member.Parse(flags, args, usage, 1, 1); err != nil {
		return err
	}
	node, err := common.Node(anchor.Config{})
	if err != nil {
		return err
	}
	defer node.Close()
	return ping(ctx, node, flags.Arg(0), *count, *wait)
}

func ping(ctx context.Context, node *anchor.Node, host string, count int, wait time.Duration) error {
	var t tally
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 1; count == 0 || i <= count; i++ {
		one, cancel := context.WithTimeout(ctx, wait)
		rtt, err := node.Ping(one, host)
		cancel()
		switch {
		case ctx.Err() != nil:
			return t.print(host)
		case err != nil && t.got == 0:
			return err
		case err != nil:
			fmt.Printf("seq=%d: %v\n", i, err)
			t.sent++
		default:
			fmt.Printf("seq=%d time=%v path=%s\n", i, rtt.Round(time.Microsecond), path(node))
			t.add(rtt)
			wait = 2 * time.Second
		}
		if i == count {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return t.print(host)
		}
	}
	return t.print(host)
}

// path names how the node's only peer is reached.
func path(node *anchor.Node) string {
	for _, p := range node.Peers() {
		return p.Path.String()
	}
	return "own"
}

// tally sums up round trips.
type tally struct {
	sent, got     int
	min, max, sum time.Duration
}

func (t *tally) add(rtt time.Duration) {
	if t.got == 0 || rtt < t.min {
		t.min = rtt
	}
	t.max = max(t.max, rtt)
	t.sum += rtt
	t.sent++
	t.got++
}

func (t *tally) print(host string) error {
	if t.got == 0 {
		return fmt.Errorf("%s does not answer", host)
	}
	avg := t.sum / time.Duration(t.got)
	fmt.Printf("%s: %d sent, %d answered, min/avg/max %v/%v/%v\n", host, t.sent, t.got,
		t.min.Round(time.Microsecond), avg.Round(time.Microsecond), t.max.Round(time.Microsecond))
	if t.got < t.sent {
		return fmt.Errorf("%d of %d were not answered", t.sent-t.got, t.sent)
	}
	return nil
}
