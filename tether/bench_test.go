//go:build unix

package tether

import (
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"

	"github.com/veil-net/anchor/internal/buffer"
)

// BenchmarkConnect opens a tether from cold: no link, no certificate for DTLS at first,
// signalling in memory without delay. The hello of both sides has been exchanged at the end.
func BenchmarkConnect(b *testing.B) {
	for _, by := range []string{"lower", "higher"} {
		b.Run(by, func(b *testing.B) {
			_, from, to := pair(b, nil)
			if by == "higher" {
				from, to = to, from
			}
			var took []time.Duration
			b.ResetTimer()
			for range b.N {
				start := time.Now()
				n := from.open(to)
				took = append(took, time.Since(start))
				b.StopTimer()
				to.await("its tether", func() bool { _, up := to.Neighbor(from.id()); return up })
				from.Drop(to.id())
				<-n.finished
				to.await("the end", func() bool { _, up := to.Neighbor(from.id()); return !up })
				b.StartTimer()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
		})
	}
}

// cpu is the processor time that this process has used.
func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportRate reports Mbit/s, and processor seconds per gigabit, which a busy machine spoils
// less. used is the processor time at the start.
func reportRate(b *testing.B, used time.Duration) {
	bits := float64(b.N) * benchMessage * 8
	b.ReportMetric(bits/b.Elapsed().Seconds()/1e6, "Mbit/s")
	b.ReportMetric((cpu(b)-used).Seconds()/(bits/1e9), "cpu-s/Gbit")
}

// The throughput benchmarks send messages of the size that a stream batches, both ends in
// this process, over 127.0.0.1. Compare them with each other in one run.
const benchMessage = 37500

// BenchmarkThroughput is one direction of a tether.
func BenchmarkThroughput(b *testing.B) {
	_, from, to := pair(b, nil)
	n := from.open(to)
	var got atomic.Int64
	all := make(chan struct{})
	to.sink.took = func(Neighbor, *buffer.Buf) {
		if got.Add(1) == int64(b.N) {
			close(all)
		}
	}
	used := cpu(b)
	b.ResetTimer()
	for range b.N {
		m := buffer.Get(benchMessage)
		copy(m.Extend(benchMessage), []byte{1, 1})
		if err := n.Send(context.Background(), m); err != nil {
			b.Fatal(err)
		}
	}
	<-all
	reportRate(b, used)
	b.ReportMetric(float64(n.Info().RTT.Microseconds()), "rtt-us")
}

// BenchmarkRawLink is the link below, without queue, counters and heartbeats: pion with
// blocking writes.
func BenchmarkRawLink(b *testing.B) {
	from, to := newLinkPair(b)
	rawThroughput(b, from.write, func(p []byte) error { _, err := to.read(p); return err })
}

func rawThroughput(b *testing.B, write, read func([]byte) error) {
	done := make(chan error, 1)
	go func() {
		p := make([]byte, 65535)
		for range b.N {
			if err := read(p); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	msg := make([]byte, benchMessage)
	used := cpu(b)
	b.ResetTimer()
	for range b.N {
		if err := write(msg); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	reportRate(b, used)
}

// BenchmarkRawRule is pion as most programs use it: 4 MiB receive buffer, wait above 1 MiB
// buffered, wake at 512 KiB.
func BenchmarkRawRule(b *testing.B) {
	var se webrtc.SettingEngine
	se.SetIncludeLoopbackCandidate(true)
	se.SetIPFilter(func(ip net.IP) bool { return ip.Equal(net.IPv4(127, 0, 0, 1)) })
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	se.EnableSCTPZeroChecksum(true)
	se.SetSCTPMaxReceiveBufferSize(4 << 20)
	se.DetachDataChannels()
	api := webrtc.NewAPI(webrtc.WithSettingEngine(se))
	var pcs [2]*webrtc.PeerConnection
	for i := range pcs {
		pc, err := api.NewPeerConnection(webrtc.Configuration{})
		if err != nil {
			b.Fatal(err)
		}
		pcs[i] = pc
		b.Cleanup(func() { _ = pc.GracefulClose() })
	}
	ordered := false
	open := make(chan error)
	var rws [2]io.ReadWriteCloser
	detach := func(i int, dc *webrtc.DataChannel) func() {
		return func() {
			rw, err := dc.Detach()
			rws[i] = rw
			open <- err
		}
	}
	dc, err := pcs[0].CreateDataChannel("raw", &webrtc.DataChannelInit{Ordered: &ordered})
	if err != nil {
		b.Fatal(err)
	}
	dc.OnOpen(detach(0, dc))
	pcs[1].OnDataChannel(func(dc *webrtc.DataChannel) { dc.OnOpen(detach(1, dc)) })
	exchangeSDP(b, pcs[0], pcs[1])
	for range pcs {
		if err := <-open; err != nil {
			b.Fatal(err)
		}
	}
	go func() { // the channel's acknowledgement is read
		p := make([]byte, 65535)
		for {
			if _, err := rws[0].Read(p); err != nil {
				return
			}
		}
	}()
	low := make(chan struct{}, 1)
	dc.SetBufferedAmountLowThreshold(512 << 10)
	dc.OnBufferedAmountLow(func() { signal(low) })
	rawThroughput(b, func(p []byte) error {
		if _, err := rws[0].Write(p); err != nil {
			return err
		}
		for dc.BufferedAmount() > 1<<20 {
			<-low
		}
		return nil
	}, func(p []byte) error { _, err := rws[1].Read(p); return err })
}

func exchangeSDP(b *testing.B, from, to *webrtc.PeerConnection) {
	offer, err := from.CreateOffer(nil)
	if err != nil {
		b.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(from)
	if err := from.SetLocalDescription(offer); err != nil {
		b.Fatal(err)
	}
	<-gathered
	if err := to.SetRemoteDescription(*from.LocalDescription()); err != nil {
		b.Fatal(err)
	}
	answer, err := to.CreateAnswer(nil)
	if err != nil {
		b.Fatal(err)
	}
	gathered = webrtc.GatheringCompletePromise(to)
	if err := to.SetLocalDescription(answer); err != nil {
		b.Fatal(err)
	}
	<-gathered
	if err := from.SetRemoteDescription(*to.LocalDescription()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRoundTrip sends a small message there and back over a tether.
func BenchmarkRoundTrip(b *testing.B) {
	_, from, to := pair(b, nil)
	n := from.open(to)
	back := make(chan struct{}, 1)
	to.sink.took = func(nb Neighbor, _ *buffer.Buf) { _ = nb.Send(context.Background(), message("pong")) }
	from.sink.took = func(Neighbor, *buffer.Buf) { back <- struct{}{} }
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		start := time.Now()
		if err := n.Send(context.Background(), message("ping")); err != nil {
			b.Fatal(err)
		}
		<-back
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

func BenchmarkRawRoundTrip(b *testing.B) {
	from, to := newLinkPair(b)
	go func() {
		p := make([]byte, 65535)
		for {
			n, err := to.read(p)
			if err != nil {
				return
			}
			if to.write(p[:n]) != nil {
				return
			}
		}
	}()
	took := make([]time.Duration, 0, b.N)
	p := make([]byte, 65535)
	b.ResetTimer()
	for range b.N {
		start := time.Now()
		if err := from.write(p[:48]); err != nil {
			b.Fatal(err)
		}
		if _, err := from.read(p); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkIdle keeps a tether that nobody uses; one round is a second. Both ends are in this
// process.
func BenchmarkIdle(b *testing.B) {
	_, from, to := pair(b, nil)
	n := from.open(to)
	time.Sleep(busyFor)
	goroutines, used := runtime.NumGoroutine(), cpu(b)
	b.ResetTimer()
	time.Sleep(time.Duration(b.N) * time.Second)
	b.ReportMetric(float64((cpu(b)-used).Microseconds())/float64(b.N), "cpu-us/s")
	b.ReportMetric(float64(goroutines), "goroutines")
	if !n.alive() {
		b.Fatal(n.err)
	}
}
