package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/veil-net/anchor/examples/speedtest/peers"
)

// result is what one contender reached. A figure that this system cannot tell is 0 and left
// out of the JSON.
type result struct {
	Name       string  `json:"name"`
	TputMbps   float64 `json:"tput_mbps"`
	Tput4Mbps  float64 `json:"tput4_mbps"`
	CPUPerGbit float64 `json:"cpu_s_per_gbit,omitzero"`
	RTTP50us   float64 `json:"rtt_p50_us"`
	RTTP99us   float64 `json:"rtt_p99_us"`
	ConnectMS  float64 `json:"connect_ms"`
	DialP50MS  float64 `json:"dial_ms_p50"`
	ResidentMB float64 `json:"rss_mb,omitzero"`
	Goroutines int     `json:"goroutines"`
}

// options say how much work is measured.
type options struct {
	duration   time.Duration // of one throughput run, without warm-up
	warmUp     time.Duration
	idle       time.Duration // before memory and goroutines are counted
	streams    int           // of the many-stream run
	writeSize  int           // bytes of one write of a stream
	roundTrips int
	dials      int
}

var defaults = options{
	duration: 5 * time.Second, warmUp: time.Second, idle: 3 * time.Second,
	streams: 4, writeSize: 256 << 10, roundTrips: 2000, dials: 50,
}

// stepTimeout bounds each step that has no duration of its own: a contender that gets stuck
// fails, and says in what.
const stepTimeout = time.Minute

// measurer is a way to measure a contender: in this process, or in one of its own.
type measurer func(context.Context, contender, options) (result, error)

// measure runs every test on one contender in this process.
func measure(ctx context.Context, c contender, o options) (_ result, err error) {
	debug.FreeOSMemory() // what was before
	before := runtime.NumGoroutine()
	srv := new(server)
	pair, err := c.open(ctx, srv.handle)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, pair.Close()) }()

	b := bench{pair: pair, server: srv, options: o, goroutines: before, result: result{Name: c.name}}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"connect, idle and round trips", b.firstConnection},
		{"dials", b.warmDials},
		{"one stream", b.oneStream},
		{"many streams", b.manyStreams},
	} {
		stepCtx, cancel := context.WithTimeoutCause(ctx, stepTimeout+o.duration+o.warmUp+o.idle,
			errors.New("it got stuck"))
		err := step.run(stepCtx)
		cancel()
		if err != nil {
			return result{}, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return b.result, nil
}

// bench is one contender while it is measured.
type bench struct {
	pair   peers.Pair
	server *server
	options
	goroutines int // of the process without the pair
	result     result
}

// firstConnection measures what needs the first connection: how long it takes to come about,
// what two nodes cost while it is idle, and its round trips.
func (b *bench) firstConnection(ctx context.Context) error {
	start := time.Now()
	c, stop, err := open(ctx, b.pair, serviceEcho)
	if err != nil {
		return err
	}
	defer stop()
	b.result.ConnectMS = ms(time.Since(start))

	if err := sleep(ctx, b.idle); err != nil {
		return err
	}
	b.result.ResidentMB = residentMB()
	b.result.Goroutines = runtime.NumGoroutine() - b.goroutines

	message, answer := make([]byte, 64), make([]byte, 64)
	took := make([]time.Duration, b.roundTrips)
	for i := range took {
		start := time.Now()
		if err := roundTrip(c, message, answer); err != nil {
			return orCause(ctx, err)
		}
		took[i] = time.Since(start)
	}
	b.result.RTTP50us = us(quantile(took, 0.50))
	b.result.RTTP99us = us(quantile(took, 0.99))
	return nil
}

func (b *bench) warmDials(ctx context.Context) error {
	took := make([]time.Duration, b.dials)
	for i := range took {
		start := time.Now()
		c, err := b.pair.Dial(ctx)
		if err != nil {
			return err
		}
		took[i] = time.Since(start)
		c.Close()
	}
	b.result.DialP50MS = ms(quantile(took, 0.50))
	return nil
}

func (b *bench) oneStream(ctx context.Context) (err error) {
	b.result.TputMbps, b.result.CPUPerGbit, err = b.throughput(ctx, 1)
	return err
}

func (b *bench) manyStreams(ctx context.Context) (err error) {
	b.result.Tput4Mbps, _, err = b.throughput(ctx, b.streams)
	return err
}

// throughput saturates n streams and returns what arrived per second and what a gigabit of it
// cost in processor time, both over the time after the warm-up.
func (b *bench) throughput(ctx context.Context, n int) (mbps, cpuPerGbit float64, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	var writers sync.WaitGroup
	defer writers.Wait()
	defer fail(nil)
	for range n {
		c, stop, err := open(ctx, b.pair, serviceSink)
		if err != nil {
			return 0, 0, err
		}
		defer stop() // ends a write under way
		writers.Go(func() {
			for buf := make([]byte, b.writeSize); ctx.Err() == nil; {
				if _, err := c.Write(buf); err != nil {
					fail(fmt.Errorf("write: %w", err))
				}
			}
		})
	}

	if err := sleep(ctx, b.warmUp); err != nil {
		return 0, 0, err
	}
	start, cpu, received := time.Now(), cpuTime(), b.server.received.Load()
	if err := sleep(ctx, b.duration); err != nil {
		return 0, 0, err
	}
	took, cpu := time.Since(start), cpuTime()-cpu
	bits := 8 * float64(b.server.received.Load()-received)
	if bits == 0 {
		return 0, 0, fmt.Errorf("nothing arrived in %v", took)
	}
	return bits / took.Seconds() / 1e6, cpu.Seconds() / (bits / 1e9), nil
}

// sleep waits for d, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// quantile sorts d, which must not be empty, and returns the value below which a share q of
// it lies.
func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
