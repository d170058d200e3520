package egress

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/stream"
)

// spring is a kernel-like source that gives the same packets whenever it is asked to.
type spring struct {
	packets [][]byte
	round   chan struct{}
}

func (s *spring) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if _, ok := <-s.round; !ok {
		return 0, os.ErrClosed
	}
	for i, p := range s.packets {
		sizes[i] = copy(bufs[i][offset:], p)
	}
	return len(s.packets), nil
}

func (s *spring) Write([][]byte, int) (int, error) { return 0, nil }
func (s *spring) BatchSize() int                   { return 128 }
func (s *spring) MTU() (int, error)                { return 1420, nil }
func (s *spring) Name() (string, error)            { return "spring", nil }
func (s *spring) File() *os.File                   { return nil }
func (s *spring) Events() <-chan tun.Event         { return nil }
func (s *spring) Close() error                     { close(s.round); return nil }

// bufSpring is a spring like an in-process stack.
type bufSpring struct{ spring }

func (s *bufSpring) ReadBufs(dst []*buffer.Buf) (int, error) {
	if _, ok := <-s.round; !ok {
		return 0, os.ErrClosed
	}
	now := time.Now()
	for i, p := range s.packets {
		dst[i] = buffer.Get(len(p))
		dst[i].Append(p)
		dst[i].Born = now
	}
	return len(s.packets), nil
}

// drain is a Senders that counts packets and keeps nothing.
type drain struct {
	want, got int
	done      chan struct{}
}

func (d *drain) Sender(identity.ID) stream.Sender { return d }
func (d *drain) Close()                           {}

func (d *drain) Send(_ context.Context, b *stream.Batch) error {
	d.got += b.Count()
	b.Release()
	if d.got == d.want {
		d.got = 0
		d.done <- struct{}{}
	}
	return nil
}

const perRound = 50

func newSpring(inProcess bool, size int) (tun.Device, *spring) {
	s := &bufSpring{spring{round: make(chan struct{})}}
	for i := range perRound {
		s.packets = append(s.packets, udp(bob6, i, size))
	}
	if inProcess {
		return s, &s.spring
	}
	return &s.spring, &s.spring
}

// harness sends rounds of packets through an Egress.
func newHarness(inProcess bool, size int) (round, stop func()) {
	dev, s := newSpring(inProcess, size)
	d := &drain{want: perRound, done: make(chan struct{})}
	e := New(Config{Source: dev, Local: []netip.Addr{own4, own6}, Resolver: &directory{}, Senders: d})
	e.Start()
	return func() { s.round <- struct{}{}; <-d.done }, func() { dev.Close(); e.Close() }
}

func TestHotPathAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops at random")
	}
	for _, inProcess := range []bool{true, false} {
		t.Run(fmt.Sprintf("inProcess=%v", inProcess), func(t *testing.T) {
			round, stop := newHarness(inProcess, 1400)
			defer stop()
			for range 200 {
				round()
			}
			// A context is made every 62 ms, and the collector empties the pools now and then.
			if n := testing.AllocsPerRun(500, round); n > 1 {
				t.Errorf("%v allocations for %d packets", n, perRound)
			}
		})
	}
}

// Asking for room is in every Write of an application.
func TestTryRoomAllocatesNothing(t *testing.T) {
	f := newFixture(t, true, nil)
	f.Start()
	f.dev.Feed(udp(bob6, 0, 0))
	f.net.wait(t, 1)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if !f.TryRoom(bob6) || !f.TryRoom(carol) || f.WaitRoom(ctx, bob6) != nil {
			t.Error("no room")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	f.stop()
}

func BenchmarkEgress(b *testing.B) {
	for _, inProcess := range []bool{true, false} {
		for _, size := range []int{100, 1400} {
			b.Run(fmt.Sprintf("inProcess=%v,size=%d", inProcess, size), func(b *testing.B) {
				round, stop := newHarness(inProcess, size)
				defer stop()
				b.ReportAllocs()
				b.SetBytes(int64(perRound * size))
				for b.Loop() {
					round()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/perRound, "ns/packet")
			})
		}
	}
}

func BenchmarkTryRoom(b *testing.B) {
	e := New(Config{Source: &spring{}, Local: []netip.Addr{own6}, Resolver: &directory{}, Senders: &drain{}})
	g := e.newGroup(bob6)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e.TryRoom(bob6)
		}
	})
	g.queue.Close()
	e.wg.Wait()
	e.Close()
}
