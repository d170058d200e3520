package egress

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
)

// both runs a test on a source like an in-process stack and on one like a kernel's, in a
// synctest bubble.
func both(t *testing.T, test func(t *testing.T, inProcess bool)) {
	for _, inProcess := range []bool{true, false} {
		t.Run(fmt.Sprintf("inProcess=%v", inProcess), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, inProcess) })
		})
	}
}

func TestPacketsArriveInOrder(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, func(c *Config) { c.QueueBytes = 1 << 20 }) // holds all of them
		f.Start()
		const rounds = 40
		n := 0
		for range rounds {
			var in [][]byte
			for range 10 {
				in = append(in, udp(bob4, n, 100), udp(bob6, n, 1400), udp(carol, n, 60))
				n++
			}
			f.dev.Feed(in...)
		}
		batches := f.net.wait(t, 3*n)
		checkOrder(t, filter(packetsOf(batches, idOf(bob4)), 4), bob4, 0, n, 100)
		checkOrder(t, filter(packetsOf(batches, idOf(bob6)), 6), bob6, 0, n, 1400)
		checkOrder(t, packetsOf(batches, idOf(carol)), carol, 0, n, 60)
		for _, b := range batches {
			if len(b.packets) > 25 || len(b.packets) == 0 {
				t.Errorf("a batch of %d packets", len(b.packets))
			}
			if b.born.IsZero() {
				t.Error("a batch of unknown age")
			}
		}
		if s := f.snapshot(); s.In != uint64(3*n) || s.Out != uint64(3*n) || s.Dropped() != 0 {
			t.Errorf("counted %+v", s)
		}
		f.stop()
	})
}

func filter(packets [][]byte, version byte) (out [][]byte) {
	for _, p := range packets {
		if p[0]>>4 == version {
			out = append(out, p)
		}
	}
	return out
}

// In virtual time, a lone packet leaves at the moment it came.
func TestLonePacketIsNotDelayed(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.Start()
		for i := range 5 {
			at := time.Now()
			f.dev.Feed(udp(bob4, i, 0))
			synctest.Wait()
			if batches := f.net.wait(t, i+1); len(batches) != i+1 || !time.Now().Equal(at) {
				t.Errorf("packet %d: %d batches after %v", i, len(batches), time.Since(at))
			}
			time.Sleep(time.Second)
		}
		f.stop()
	})
}

// While an Egresser is busy, what comes forms batches of 25 by itself.
func TestBatchesFormUnderPressure(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		open := make(chan struct{})
		f.net.send = stall(open)
		f.Start()
		f.dev.Feed(udp(bob4, 0, 0))
		synctest.Wait()
		for i := 1; i < 61; i++ {
			f.dev.Feed(udp(bob4, i, 0))
		}
		synctest.Wait()
		close(open)
		var sizes []int
		for _, b := range f.net.wait(t, 61) {
			sizes = append(sizes, len(b.packets))
		}
		if fmt.Sprint(sizes) != "[1 25 25 10]" {
			t.Errorf("batches of %v packets", sizes)
		}
		f.stop()
	})
}

// Packets that do not fit one message together go in several, none lost.
func TestLargePacketsAreSplitOverBatches(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, func(c *Config) { c.QueueBytes = 1 << 20 })
		open := make(chan struct{})
		f.net.send = stall(open)
		f.Start()
		for i := range 20 {
			f.dev.Feed(udp(bob4, i, 9000))
		}
		synctest.Wait()
		close(open)
		batches := f.net.wait(t, 20)
		checkOrder(t, packetsOf(batches, idOf(bob4)), bob4, 0, 20, 9000)
		for _, b := range batches {
			if len(b.packets) > 6 {
				t.Errorf("%d packets of 9,000 bytes in one message", len(b.packets))
			}
		}
		f.stop()
	})
}

// A stalled destination takes nothing from the others, whatever the source.
func TestStalledDestinationHoldsNobody(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, func(c *Config) { c.QueueBytes = 1 })
		never := stall(make(chan struct{}))
		f.net.send = func(ctx context.Context, to identity.ID) error {
			if to == idOf(carol) {
				return never(ctx, to)
			}
			return nil
		}
		f.Start()
		began := time.Now()
		for i := range 300 {
			f.dev.Feed(udp(carol, i, 1000), udp(bob4, i, 1000))
			synctest.Wait()
		}
		checkOrder(t, packetsOf(f.net.wait(t, 300), idOf(bob4)), bob4, 0, 300, 1000)
		if d := time.Since(began); d != 0 {
			t.Errorf("took %v", d)
		}
		f.stop()
	})
}

// After an outage what is delivered is fresh, and the outage's packets are counted.
func TestOutageEndsWithFreshPackets(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		open := make(chan struct{})
		f.net.send = stall(open)
		f.Start()
		n := 0
		for ; n < 300; n++ { // 30 s
			f.dev.Feed(udp(bob4, n, 1000))
			time.Sleep(100 * time.Millisecond)
		}
		close(open)
		synctest.Wait()
		now := time.Now()
		batches := f.net.wait(t, 1)
		if age := now.Sub(batches[0].born); age > 2*time.Second {
			t.Errorf("the first packet after the outage is %v old", age)
		}
		s := f.snapshot()
		if s.Drops["expired"]+s.Out != 300 || s.Dropped() != s.Drops["expired"] || s.Out < 19 {
			t.Errorf("counted %+v", s)
		}
		if s.Notes["icmp sent"] != s.Drops["expired"] {
			t.Errorf("%d packets expired, %d senders were told", s.Drops["expired"], s.Notes["icmp sent"])
		}
		f.stop()
	})
}

// The context of a Send ends when the oldest packet of the batch is too old, or up to one
// step earlier.
func TestSendEndsAtTheAgeLimit(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		var ends []time.Duration
		f.net.send = func(ctx context.Context, _ identity.ID) error {
			<-ctx.Done()
			ends = append(ends, time.Since(start(t)))
			return context.Cause(ctx)
		}
		begin(t)
		f.Start()
		for i := range 3 {
			f.dev.Feed(udp(bob4, i, 0))
			time.Sleep(90 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(ends) != 3 || ends[0] != DefaultMaxAge {
			t.Errorf("sends ended after %v", ends)
		}
		for i, end := range ends { // the packets behind were born 90 and 180 ms later
			limit := DefaultMaxAge + time.Duration(i)*90*time.Millisecond
			if end > limit || end < limit-DefaultMaxAge/deadlineSlots {
				t.Errorf("send %d ended after %v, want %v or a little less", i, end, limit)
			}
		}
		f.wantDrops(map[string]uint64{"expired": 3})
		f.stop()
	})
}

var starts sync.Map // *testing.T -> time.Time

func begin(t *testing.T) {
	starts.Store(t, time.Now())
	t.Cleanup(func() { starts.Delete(t) })
}

func start(t *testing.T) time.Time {
	v, _ := starts.Load(t)
	return v.(time.Time)
}

func TestIdleDestinationRetires(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.Start()
		f.dev.Feed(udp(bob4, 0, 0), udp(bob6, 0, 0))
		f.net.wait(t, 2)
		time.Sleep(3 * time.Second)
		f.dev.Feed(udp(bob4, 1, 0))
		f.net.wait(t, 3)
		time.Sleep(DefaultGrace - time.Millisecond)
		if n := f.net.uses(); n != 1 {
			t.Errorf("just before the grace period ends %d senders are open, want 1", n)
		}
		if q := f.queues.Snapshot()[0]; q.Queues != 1 || q.Name != "egress.destination" || q.Unit != "bytes" || q.Capacity != DefaultQueueBytes ||
			q.Policy != map[bool]queue.Policy{true: queue.Admit, false: queue.Drop}[inProcess] {
			t.Errorf("queues: %+v", q)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := f.net.uses(); n != 0 || f.live.Load() != 0 {
			t.Errorf("after the grace period %d senders are open, %d groups live", n, f.live.Load())
		}
		f.dev.Feed(udp(bob4, 2, 0))
		f.net.wait(t, 4)
		f.stop()
	})
}

// Packets that come at the very moment of retirement are neither lost nor reordered.
func TestRetirementLosesNothing(t *testing.T) {
	f := newFixture(t, true, func(c *Config) { c.Grace = time.Nanosecond })
	f.Start()
	const n = 3000
	for i := range n {
		f.dev.Feed(udp(bob4, i, 0))
		if i%3 == 0 {
			f.net.wait(t, i+1) // now it is idle, and retires at some moment
		}
	}
	checkOrder(t, packetsOf(f.net.wait(t, n), idOf(bob4)), bob4, 0, n, 0)
	f.net.mu.Lock()
	if f.net.opened < 10 {
		t.Errorf("the destination was made anew %d times: the test shows nothing", f.net.opened)
	}
	f.net.mu.Unlock()
	f.wantDrops(nil)
	f.stop()
}

func TestManyDestinationsAtOnce(t *testing.T) {
	f := newFixture(t, true, nil)
	f.Start()
	const destinations, each = 200, 30
	addr := func(i int) netip.Addr {
		a := netip.MustParseAddr("fd00::1:0").As16()
		a[14], a[15] = byte(i>>8), byte(i)
		return netip.AddrFrom16(a)
	}
	for k := range each {
		var in [][]byte
		for i := range destinations {
			in = append(in, udp(addr(i), k, 0))
		}
		f.dev.Feed(in...)
	}
	got := make(map[identity.ID][][]byte)
	for _, b := range f.net.wait(t, destinations*each) {
		got[b.to] = append(got[b.to], b.packets...)
	}
	for i := range destinations {
		checkOrder(t, got[idOf(addr(i))], addr(i), 0, each, 0)
	}
	f.wantDrops(nil)
	f.stop()
}
