package ingress

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/tuntest"
)

// both runs a test with a device like an in-process stack's and with one like a kernel's, in
// a synctest bubble.
func both(t *testing.T, test func(t *testing.T, inProcess bool)) {
	for _, inProcess := range []bool{true, false} {
		t.Run(fmt.Sprintf("inProcess=%v", inProcess), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, inProcess) })
		})
	}
}

// Packets of all sizes lie one behind the other in a message; each must reach the device as
// it was, whatever the device does to the room around it.
func TestPacketsAreDeliveredIntact(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		in := newInbound(1)
		s := f.Accept(in)
		r := rand.New(rand.NewPCG(1, 1))
		var want [][]byte
		size := 0
		for number := range uint64(200) {
			var packets [][]byte
			for range 1 + r.IntN(25) {
				p := udp(peer4, own4, len(want), r.IntN(2000))
				if r.IntN(2) == 0 {
					p = udp(peer6, own6, len(want), r.IntN(2000))
				}
				packets, want = append(packets, p), append(want, p)
			}
			m := seal(number, 0, packets...)
			size += m.Len()
			mustPush(t, s, m)
			if r.IntN(3) == 0 {
				synctest.Wait()
			}
		}
		wantPackets(t, f.dev.WaitWritten(len(want)), want...)
		synctest.Wait()
		if _, consumed, missing := in.count(); consumed != size || missing != 0 {
			t.Errorf("consumed %d of %d bytes, %d gaps", consumed, size, missing)
		}
		if st := f.snapshot(); st.In != uint64(len(want)) || st.Out != uint64(len(want)) || st.Dropped() != 0 || st.Notes["late"] != 0 {
			t.Errorf("counted %+v", st)
		}
		f.stop()
	})
}

func TestWritesAreBatched(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		in := newInbound(1)
		s := f.Accept(in)
		for number := range uint64(16) {
			var packets [][]byte
			for k := range 25 {
				packets = append(packets, packet4(int(number)*25+k))
			}
			mustPush(t, s, seal(number, 0, packets...))
		}
		got := f.dev.WaitWritten(400)
		if n := f.dev.Writes(); n > 400/maxWrite+16 {
			t.Errorf("%d packets took %d writes", len(got), n)
		}
		f.stop()
	})
}

func TestOrderAndHold(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		in := newInbound(1)
		s := f.Accept(in)
		mustPush(t, s, seal(0, 0, packet4(0)), seal(2, 0, packet4(2)), seal(3, 0, packet4(3)))
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0}) {
			t.Errorf("wrote %v across a gap", got)
		}
		if _, _, missing := in.count(); missing != 1 {
			t.Errorf("Missing was called %d times for one gap", missing)
		}
		mustPush(t, s, seal(1, 0, packet4(1)))
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0, 1, 2, 3}) {
			t.Errorf("wrote %v", got)
		}
		// A gap that is not filled: held for 2 ms, then skipped.
		mustPush(t, s, seal(5, 0, packet4(5)))
		time.Sleep(2*ms - 1)
		synctest.Wait()
		if n := len(f.dev.Written()); n != 4 {
			t.Errorf("%d packets before the hold is over", n)
		}
		time.Sleep(1)
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0, 1, 2, 3, 5}) {
			t.Errorf("wrote %v after the hold", got)
		}
		mustPush(t, s, seal(4, 0, packet4(4)))
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0, 1, 2, 3, 5, 4}) {
			t.Errorf("wrote %v, want the late one at once", got)
		}
		if st := f.snapshot(); st.Notes["late"] != 1 || st.Notes["skipped"] != 1 || st.Dropped() != 0 {
			t.Errorf("counted %+v", st)
		}
		f.stop()
	})
}

func TestFloorAndPassedNumbersAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		in := newInbound(1)
		s := f.Accept(in)
		mustPush(t, s, seal(0, 0, packet4(0)))
		s.Pass(1, 0) // a probe
		mustPush(t, s, seal(2, 0, packet4(2)), seal(9, 9, packet4(9)))
		s.Pass(20, 20)
		mustPush(t, s, seal(21, 9, packet4(21)))
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0, 2, 9, 21}) {
			t.Errorf("wrote %v", got)
		}
		if _, _, missing := in.count(); missing != 0 {
			t.Errorf("%d gaps", missing)
		}
		s.Pass(25, 0)
		synctest.Wait()
		if _, _, missing := in.count(); missing != 1 {
			t.Errorf("a passed number that leaves a gap: Missing was called %d times", missing)
		}
		f.stop()
	})
}

func TestWindowIsEnforced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := seal(1, 0, packet4(1))
		f := newFixture(t, true, func(c *Config) { c.WindowBytes = 3 * one.Len(); c.Hold = fixed(time.Second) })
		in := newInbound(1)
		s := f.Accept(in)
		mustPush(t, s, one)
		synctest.Wait() // opened, and held for number 0: it still counts
		mustPush(t, s, seal(2, 0, packet4(2)), seal(3, 0, packet4(3)))
		synctest.Wait()
		more := seal(4, 0, packet4(4))
		if s.Push(more) {
			t.Fatal("Push takes more than the window")
		}
		if q := f.queues.Snapshot()[0]; q.Name != "ingress.stream" || q.Unit != "bytes" || q.Capacity != 3*more.Len() {
			t.Errorf("queues: %+v", q)
		}
		time.Sleep(time.Second) // 0 is skipped
		synctest.Wait()
		mustPush(t, s, more)
		f.dev.WaitWritten(4)
		f.stop()
	})
}

// Sealed messages that wait count against the window too.
func TestWindowCountsSealedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, func(c *Config) { c.WindowBytes = 1 })
		in := newInbound(1)
		hold := make(chan struct{})
		in.onOpen = func() { <-hold }
		s := f.Accept(in)
		mustPush(t, s, seal(0, 0, packet4(0)))
		synctest.Wait()
		m := seal(1, 0, packet4(1))
		if s.Push(m) {
			t.Error("a window of 1 byte takes two messages")
		}
		close(hold)
		synctest.Wait()
		mustPush(t, s, m)
		f.dev.WaitWritten(2)
		f.stop()
	})
}

func TestMessagesThatDoNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, func(c *Config) { c.WindowBytes = 4000 })
		in := newInbound(1)
		s := f.Accept(in)
		for range 100 {
			mustPush(t, s, broken())
			synctest.Wait()
		}
		mustPush(t, s, seal(0, 0, packet4(0)))
		f.dev.WaitWritten(1)
		synctest.Wait()
		if _, consumed, _ := in.count(); consumed >= 100*100 {
			t.Errorf("consumed %d bytes: what does not open is not of the window", consumed)
		}
		f.wantDrops(nil)
		f.stop()
	})
}

func TestDuplicatesAreNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		s := f.Accept(newInbound(1))
		for range 3 {
			mustPush(t, s, seal(0, 0, packet4(0)))
		}
		mustPush(t, s, seal(1, 0, packet4(1)))
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0, 1}) {
			t.Errorf("wrote %v", got)
		}
		if n := f.snapshot().Notes["duplicates"]; n != 2 {
			t.Errorf("%d duplicates are noted", n)
		}
		f.wantDrops(nil)
		f.stop()
	})
}

// Nothing but packets from the peer's own addresses to ours gets through (A36, A32).
func TestPacketsThatAreDropped(t *testing.T) {
	tests := []struct {
		name   string
		p      []byte
		reason string
	}{
		{"another member's source", udp(other4, own4, 0, 0), "foreign source"},
		{"another member's source, IPv6", udp(other6, own6, 0, 0), "foreign source"},
		{"our own source", udp(own4, own4, 0, 0), "foreign source"},
		{"loopback source", udp(ip("127.0.0.1"), own4, 0, 0), "foreign source"},
		{"multicast source", udp(ip("224.0.0.1"), own4, 0, 0), "foreign source"},
		{"unspecified source", udp(ip("::"), own6, 0, 0), "foreign source"},
		{"link-local source", udp(ip("fe80::2"), own6, 0, 0), "foreign source"},
		{"IPv4-mapped source", udp(ip("::ffff:10.0.0.2"), own6, 0, 0), "foreign source"},
		{"ICMP error of another", tuntest.ICMPPacket(other4, own4, 3, 1, make([]byte, 32)), "foreign source"},
		{"to another member", udp(peer4, other4, 0, 0), "foreign destination"},
		{"to another member, IPv6", udp(peer6, other6, 0, 0), "foreign destination"},
		{"to multicast", udp(peer6, ip("ff02::1"), 0, 0), "foreign destination"},
		{"to broadcast", udp(peer4, ip("255.255.255.255"), 0, 0), "foreign destination"},
		{"to loopback", udp(peer4, ip("127.0.0.1"), 0, 0), "foreign destination"},
		{"one byte", []byte{0x45}, "malformed"},
		{"22 bytes of TCP", tuntest.Packet(peer4, own4, tuntest.TCP, []byte{0, 80}), "malformed"},
		{"trailing bytes", append(udp(peer4, own4, 0, 0), 1, 2, 3), "malformed"},
		{"version 0", make([]byte, 60), "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, false, nil)
				s := f.Accept(newInbound(1))
				mustPush(t, s, seal(0, 0, packet4(1), tt.p, packet4(2)))
				synctest.Wait()
				if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{1, 2}) {
					t.Errorf("wrote %v", got)
				}
				f.wantDrops(map[string]uint64{tt.reason: 1})
				f.stop()
			})
		})
	}
}

// The addresses are those of the certificate of the moment.
func TestPeerAddressesFollowTheCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		in := newInbound(1)
		s := f.Accept(in)
		mustPush(t, s, seal(0, 0, packet4(0)))
		synctest.Wait()
		in.mu.Lock()
		in.cert = &identity.Certificate{ID: identity.ID{2}, IPv4: other4}
		in.mu.Unlock()
		mustPush(t, s, seal(1, 0, packet4(1), udp(other4, own4, 2, 0)))
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0, 2}) {
			t.Errorf("wrote %v", got)
		}
		f.wantDrops(map[string]uint64{"foreign source": 1})
		f.stop()
	})
}

func TestTooFarAheadIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		in := newInbound(1)
		s := f.Accept(in)
		m := seal(1<<40, 0, packet4(0))
		size := m.Len()
		mustPush(t, s, m)
		synctest.Wait()
		f.wantDrops(map[string]uint64{"too far ahead": 1})
		if _, consumed, _ := in.count(); consumed != size {
			t.Errorf("consumed %d of %d bytes", consumed, size)
		}
		f.stop()
	})
}

func TestDeviceErrorsAreCountedAndSaidOnce(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		var log logBuffer
		f := newFixture(t, inProcess, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		failing := true
		f.dev.OnWrite = func([][]byte) error {
			if failing {
				return syscall.ENOBUFS
			}
			return nil
		}
		in := newInbound(1)
		s := f.Accept(in)
		size := 0
		for n := range uint64(100) {
			m := seal(n, 0, packet4(int(n)))
			size += m.Len()
			mustPush(t, s, m)
			synctest.Wait()
		}
		f.wantDrops(map[string]uint64{"write error": 100})
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines are logged:\n%s", n, log.String())
		}
		if _, consumed, _ := in.count(); consumed != size {
			t.Errorf("consumed %d of %d bytes: a failing device wedges the stream", consumed, size)
		}
		failing = false
		mustPush(t, s, seal(100, 0, packet4(100)))
		if got := numbersOf(f.dev.WaitWritten(1)); !slices.Equal(got, []int{100}) {
			t.Errorf("wrote %v", got)
		}
		if err := f.dev.Close(); err != nil {
			t.Error(err)
		}
		mustPush(t, s, seal(101, 0, packet4(101)))
		synctest.Wait()
		f.wantDrops(map[string]uint64{"write error": 101})
		f.stop()
	})
}

// A kernel that refuses what the device joined gets packets one by one, and none is lost (A30).
func TestInvalidBatchFallsBackToSingleWrites(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		var log logBuffer
		f := newFixture(t, inProcess, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		f.dev.OnWrite = func(packets [][]byte) error {
			if len(packets) > 1 {
				for _, p := range packets { // the device has begun to join them
					if !inProcess {
						clear(p)
					}
				}
				return fmt.Errorf("write: %w", syscall.EINVAL)
			}
			return nil
		}
		s := f.Accept(newInbound(1))
		mustPush(t, s, seal(0, 0, packet4(0), packet4(1), packet4(2)), seal(1, 0, packet4(3), packet4(4)))
		if got := numbersOf(f.dev.WaitWritten(5)); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
			t.Errorf("wrote %v", got)
		}
		f.wantDrops(nil)
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines are logged:\n%s", n, log.String())
		}
		f.stop()
	})
}

func TestNoCoalescing(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, func(c *Config) { c.NoCoalescing = true })
		s := f.Accept(newInbound(1))
		mustPush(t, s, seal(0, 0, packet4(0), packet4(1), packet4(2)))
		f.dev.WaitWritten(3)
		if n := f.dev.Writes(); n != 3 {
			t.Errorf("3 packets took %d writes", n)
		}
		f.stop()
	})
}

// One stream's trouble is not the others'.
func TestStreamsAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		slow, fast := newInbound(1), newInbound(2)
		block := make(chan struct{})
		slow.onOpen = func() { <-block }
		a, b := f.Accept(slow), f.Accept(fast)
		mustPush(t, a, seal(0, 0, packet4(0)))
		for n := range uint64(100) {
			mustPush(t, b, seal(n, 0, packet4(int(n))))
		}
		f.dev.WaitWritten(100)
		close(block)
		f.dev.WaitWritten(101)
		f.stop()
	})
}

func TestConcurrentStreams(t *testing.T) {
	for _, inProcess := range []bool{true, false} {
		f := newFixture(t, inProcess, func(c *Config) { c.Hold = fixed(time.Minute) }) // a slow machine
		const streams, each = 8, 300
		var wg sync.WaitGroup
		for k := range streams {
			wg.Go(func() {
				in := newInbound(byte(k + 1))
				s := f.Accept(in)
				size := 0
				for n := range uint64(each) {
					m := seal(n^1, 0, packet4(k*each+int(n^1)), packet4(9e6)) // pairs are swapped
					size += m.Len()
					mustPush(t, s, m)
				}
				in.waitConsumed(size)
			})
		}
		wg.Wait()
		next := make([]int, streams)
		for _, n := range numbersOf(f.dev.Written()) {
			if n == 9e6 {
				continue
			}
			if k := n / each; n%each != next[k] {
				t.Fatalf("stream %d: %d where %d was due", k, n%each, next[k])
			}
			next[n/each]++
		}
		f.wantDrops(nil)
		f.stop()
	}
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var _ io.Writer = (*logBuffer)(nil)

func TestCloseDropsWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, func(c *Config) { c.Hold = fixed(time.Hour) })
		in := newInbound(1)
		s := f.Accept(in)
		mustPush(t, s, seal(5, 0, packet4(5)), seal(6, 0, packet4(6))) // wait for 0
		synctest.Wait()
		s.Close()
		synctest.Wait()
		f.wantDrops(map[string]uint64{"closed": 2})
		m := seal(0, 0, packet4(0))
		if s.Push(m) {
			t.Error("a closed Sink takes a message")
		}
		m.Release()
		s.Close()
		s.Final(3)
		s.Pass(3, 0)
		f.stop()
	})
}

// Close while messages wait, sealed, behind one that is being opened.
func TestCloseDropsSealedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		in := newInbound(1)
		block := make(chan struct{})
		in.onOpen = func() { <-block }
		s := f.Accept(in)
		mustPush(t, s, seal(0, 0, packet4(0)))
		synctest.Wait()
		for n := range uint64(20) {
			mustPush(t, s, seal(n+1, 0, packet4(0)))
		}
		closed := make(chan struct{})
		go func() { f.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close does not wait for its goroutines")
		default:
		}
		close(block)
		<-closed
		if n := f.snapshot().Drops["closed"]; n != 20 {
			t.Errorf("%d messages are counted as dropped by Close", n)
		}
		f.Close()
		refused := f.Accept(newInbound(2))
		m := seal(0, 0, packet4(0))
		if refused.Push(m) {
			t.Error("a Sink accepted after Close takes a message")
		}
		m.Release()
		refused.Final(1)
		refused.Close()
		f.stop()
	})
}

func TestNewChecksItsConfig(t *testing.T) {
	for _, cfg := range []Config{{}, {Device: &tuntest.Device{}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New(%+v) does not panic", cfg)
				}
			}()
			New(cfg)
		}()
	}
}
