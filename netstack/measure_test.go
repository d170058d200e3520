//go:build linux

package netstack

import (
	"flag"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

var measure = flag.Bool("measure", false, "run the measurements that the defaults rest on")

func cpuSeconds() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// rate runs n connections from a to b for d and returns Mbit/s and CPU seconds per Gbit.
func rate(a, b *node, n int, d time.Duration) (mbit, cpu float64) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var total int64
	type pair struct{ c, d net.Conn }
	var pairs []pair
	for range n {
		c, d := connected(a, b)
		pairs = append(pairs, pair{c, d})
	}
	start, used := time.Now(), cpuSeconds()
	for _, p := range pairs {
		wg.Go(func() {
			got := bulk(p.c, p.d, stop)
			p.d.Close()
			mu.Lock()
			total += got
			mu.Unlock()
		})
	}
	time.Sleep(d)
	close(stop)
	wg.Wait()
	elapsed := time.Since(start).Seconds()
	bits := float64(total) * 8
	return bits / elapsed / 1e6, (cpuSeconds() - used) / (bits / 1e9)
}

func (nd *node) option(opts ...tcpip.SettableTransportProtocolOption) {
	for _, o := range opts {
		if err := nd.net.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			nd.n.t.Fatal(err)
		}
	}
}

func TestMeasureMTU(t *testing.T) {
	if !*measure {
		t.Skip("a measurement: run with -measure")
	}
	for round := range 2 {
		for _, mtu := range []int{1280, 1500, 9000, 16000, 16384, 32000, 32768, 60000} {
			for _, conns := range []int{1, 4} {
				func() {
					n := newNetwork(t)
					a, b := n.add(1, Config{MTU: mtu}), n.add(2, Config{MTU: mtu})
					n.join()
					mbit, cpu := rate(a, b, conns, 3*time.Second)
					q := a.queues.Snapshot()[0]
					fmt.Printf("round %d mtu %5d conns %d: %6.0f Mbit/s  %.3f CPU s/Gbit  high %d waits %d retrans %d timeouts %d dropped %d drops %v\n", round, mtu, conns, mbit, cpu, q.HighWater, q.Waits,
						a.net.Stats().TCP.Retransmits.Value(), a.net.Stats().TCP.Timeouts.Value(), b.net.Stats().DroppedPackets.Value(), b.snapshot().Dropped())
					a.Close()
					b.Close()
				}()
			}
		}
	}
}

func TestMeasureRecovery(t *testing.T) {
	if !*measure {
		t.Skip("a measurement: run with -measure")
	}
	rack, none := tcpip.TCPRACKLossDetection, tcpip.TCPRecovery(0)
	reno, cubic := tcpip.CongestionControlOption("reno"), tcpip.CongestionControlOption("cubic")
	for _, mtu := range []int{1500, 16000} {
		for _, p := range []*path{
			{delay: 10 * time.Millisecond},
			{delay: 10 * time.Millisecond, reorder: 0.01, holdBack: 5 * time.Millisecond},
			{delay: 10 * time.Millisecond, reorder: 0.05, holdBack: 5 * time.Millisecond},
			{delay: 10 * time.Millisecond, loss: 0.001},
			{delay: 10 * time.Millisecond, loss: 0.01},
			{delay: 10 * time.Millisecond, rate: 100e6, tail: 128 << 10},
			{delay: 10 * time.Millisecond, rate: 100e6, tail: 1 << 20},
		} {
			for _, set := range []struct {
				name     string
				recovery tcpip.TCPRecovery
				cc       tcpip.CongestionControlOption
			}{{"rack reno", rack, reno}, {"none reno", none, reno}, {"rack cubic", rack, cubic}, {"none cubic", none, cubic}} {
				func() {
					n := newNetwork(t)
					a, b := n.add(1, Config{MTU: mtu}), n.add(2, Config{MTU: mtu})
					q := path{delay: p.delay, reorder: p.reorder, holdBack: p.holdBack, loss: p.loss, rate: p.rate, tail: p.tail}
					q.attach(n)
					for _, nd := range []*node{a, b} {
						nd.option(&set.recovery, &set.cc)
					}
					n.join()
					mbit, cpu := rate(a, b, 1, 4*time.Second)
					fmt.Printf("mtu %5d reorder %.2f loss %.3f rate %3.0f tail %7d %-10s: %6.1f Mbit/s %.2f CPU s/Gbit retrans %d timeouts %d lost %d\n", mtu, p.reorder, p.loss, p.rate/1e6, p.tail, set.name, mbit, cpu,
						a.net.Stats().TCP.Retransmits.Value(), a.net.Stats().TCP.Timeouts.Value(), q.lost.Load())
					a.Close()
					b.Close()
				}()
			}
		}
	}
}

func TestMeasureBuffers(t *testing.T) {
	if !*measure {
		t.Skip("a measurement: run with -measure")
	}
	for _, rtt := range []time.Duration{0, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond} {
		for _, size := range []int{512 << 10, 1 << 20, 2 << 20, 4 << 20, 8 << 20} {
			func() {
				n := newNetwork(t)
				cfg := Config{SendBuffer: size, ReceiveBuffer: size}
				a, b := n.add(1, cfg), n.add(2, cfg)
				if rtt > 0 {
					q := &path{delay: rtt / 2}
					q.attach(n)
				}
				n.join()
				mbit, cpu := rate(a, b, 1, 4*time.Second)
				fmt.Printf("rtt %v buffers %4d KiB: %6.1f Mbit/s %.2f CPU s/Gbit high water %d\n", rtt, size>>10, mbit, cpu, a.queues.Snapshot()[0].HighWater)
				a.Close()
				b.Close()
			}()
		}
	}
}

func TestMeasureQueue(t *testing.T) {
	if !*measure {
		t.Skip("a measurement: run with -measure")
	}
	for round := range 2 {
		for _, size := range []int{1, 64 << 10, 256 << 10, 1 << 20, 4 << 20} {
			for _, conns := range []int{1, 8} {
				func() {
					n := newNetwork(t)
					cfg := Config{QueueBytes: size}
					a, b := n.add(1, cfg), n.add(2, cfg)
					n.join()
					mbit, cpu := rate(a, b, conns, 3*time.Second)
					q := a.queues.Snapshot()[0]
					fmt.Printf("round %d queue %7d conns %d: %6.0f Mbit/s %.3f CPU s/Gbit high water %d waits %d\n", round, size, conns, mbit, cpu, q.HighWater, q.Waits)
					a.Close()
					b.Close()
				}()
			}
		}
	}
}
