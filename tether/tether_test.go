package tether

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
)

// bench is one tether on a pipe, with the test at the other end of the pipe.
type workbench struct {
	t     *testing.T
	ether *ether
	*tether
	far   *pipeLink
	sink  *sink
	stats *stats.Set
	end   error // what env.check returns
	away  bool  // whether the Master is away
	wg    sync.WaitGroup
	mu    sync.Mutex
}

var (
	nearSession = identity.Nonce{1}
	farSession  = identity.Nonce{2}
)

// newWorkbench must be called in a synctest bubble.
func newWorkbench(t *testing.T, delay time.Duration) *workbench {
	t.Helper()
	w := &workbench{t: t, ether: newEther(delay), sink: newSink(), stats: new(stats.Set)}
	nearLink, _ := w.ether.newLink(func() {})
	farLink, _ := w.ether.newLink(func() {})
	near, far := nearLink.(*pipeLink), farLink.(*pipeLink)
	near.up(far)
	far.up(near)
	w.far = far
	env := &environment{
		receiver: w.sink, count: newCounters(w.stats), closing: &w.wg,
		idle: time.Minute,
		mayIdle: func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return !w.away
		},
		check: func(*identity.Certificate) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.end
		},
		list: func() uint64 { return 77 },
	}
	w.tether = newTether(env, slog.New(slog.DiscardHandler), near, &identity.Certificate{ID: identity.ID{9}}, farSession, nearSession, 5, func() {})
	return w
}

// stop ends everything.
func (w *workbench) stop() {
	w.tether.end(errEnded)
	<-w.finished
	w.wg.Wait()
	w.far.close()
}

// admitAfterHello does what a peer does.
func (w *workbench) up() {
	w.t.Helper()
	w.say((&wire.Hello{Session: farSession, Peer: nearSession, Window: wire.MinWindow}).Append(nil, 1))
	synctest.Wait()
	time.Sleep(2 * w.ether.delay)
	synctest.Wait()
	if !w.helloed.Load() {
		w.t.Fatal("the hello is not taken")
	}
	w.sink.Up(w.tether)
	w.admit()
}

// say has the far end write.
func (w *workbench) say(p []byte) {
	w.t.Helper()
	if err := w.far.write(p); err != nil {
		w.t.Fatal(err)
	}
}

// beat has the far end send a heartbeat.
func (w *workbench) farBeat(h wire.Heartbeat) { w.say(h.Append(nil, 1)) }

// hear takes all that the far end has got.
func (w *workbench) hear() (all [][]byte) {
	w.far.mu.Lock()
	defer w.far.mu.Unlock()
	all, w.far.in = w.far.in, nil
	return all
}

// beats picks heartbeats out of what was heard.
func (w *workbench) beats(all [][]byte) (hs []wire.Heartbeat) {
	w.t.Helper()
	for _, p := range all {
		head, body, err := wire.ParseFrame(p)
		if err != nil || head.Kind != wire.FrameHeartbeat {
			continue
		}
		var h wire.Heartbeat
		if err := h.Parse(body); err != nil {
			w.t.Fatal(err)
		}
		hs = append(hs, h)
	}
	return hs
}

func (w *workbench) drops(r string) uint64 { return w.stats.Stage("tether").Snapshot().Drops[r] }

// bubble runs a test in virtual time.
func bubble(t *testing.T, delay time.Duration, f func(w *workbench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorkbench(t, delay)
		f(w)
		w.stop()
	})
}

func TestHelloGoesFirst(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		all := w.hear()
		if len(all) < 2 {
			t.Fatalf("%d frames after the link opened", len(all))
		}
		head, body, err := wire.ParseFrame(all[0])
		if err != nil || head.Kind != wire.FrameHello || head.Number != 1 {
			t.Fatalf("first frame %v, %v", head, err)
		}
		h, err := wire.ParseHello(body)
		if err != nil || h.Session != nearSession || h.Peer != farSession || h.List != 77 {
			t.Errorf("hello %+v, %v", h, err)
		}
		if head, _, _ := wire.ParseFrame(all[1]); head.Kind != wire.FrameHeartbeat || head.Number != 2 {
			t.Errorf("second frame %v", head)
		}
	})
}

// TestHeartbeatInterval counts heartbeats while idle, while busy, and idle again.
func TestHeartbeatInterval(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.up()
		alive := func(d time.Duration) int {
			n := 0
			for end := time.Now().Add(d); time.Now().Before(end); {
				time.Sleep(50 * time.Millisecond)
				w.farBeat(wire.Heartbeat{Number: uint32(time.Now().UnixMilli())})
				synctest.Wait()
				n += len(w.beats(w.hear()))
			}
			return n
		}
		if n := alive(busyFor); n < 18 || n > 22 {
			t.Errorf("%d heartbeats in the first %v", n, busyFor)
		}
		if n := alive(10 * time.Second); n < 9 || n > 11 {
			t.Errorf("%d heartbeats in 10 s while idle", n)
		}
		if err := w.Send(context.Background(), message("work")); err != nil {
			t.Fatal(err)
		}
		if n := alive(busyFor); n < 19 || n > 22 {
			t.Errorf("%d heartbeats in %v while busy", n, busyFor)
		}
		alive(time.Second)
		if n := alive(10 * time.Second); n < 9 || n > 11 {
			t.Errorf("%d heartbeats in 10 s when idle again", n)
		}
		w.say(message("answer").Bytes()) // what comes makes it busy too
		if n := alive(busyFor); n < 19 || n > 23 {
			t.Errorf("%d heartbeats in %v after a message came", n, busyFor)
		}
	})
}

func TestDeathBySilence(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy=%v", busy), func(t *testing.T) {
			bubble(t, time.Millisecond, func(w *workbench) {
				w.up()
				time.Sleep(100 * time.Millisecond)
				want := 3 * idleBeat
				if busy {
					want = 2 * minRTO
					if err := w.Send(context.Background(), message("work")); err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Millisecond)
				}
				w.ether.set(true)
				silent := time.Now()
				var writer sync.WaitGroup
				if busy { // messages that nobody acknowledges
					writer.Go(func() {
						for w.Send(context.Background(), message("more")) == nil {
							time.Sleep(20 * time.Millisecond)
						}
					})
				}
				<-w.Done()
				took := time.Since(silent)
				writer.Wait()
				if took < want-busyBeat-50*time.Millisecond || took > want+idleBeat {
					t.Errorf("it took %v, want about %v", took, want)
				}
				t.Logf("dead after %v of silence", took)
				if !errors.Is(w.tether.err, errSilent) || w.stats.Stage("tether").Snapshot().Notes["deaths by silence"] != 1 {
					t.Errorf("why: %v", w.tether.err)
				}
				if err := w.Send(context.Background(), message("late")); !errors.Is(err, ErrDown) {
					t.Errorf("Send afterwards: %v", err)
				}
				w.ether.set(false)
			})
		})
	}
}

// TestAnyBytesAreLife has the far end send nothing but what SCTP would: no frame at all.
func TestAnyBytesAreLife(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.up()
		for range 100 {
			time.Sleep(500 * time.Millisecond)
			w.tether.link.(*pipeLink).mu.Lock()
			w.tether.link.(*pipeLink).bytes++
			w.tether.link.(*pipeLink).mu.Unlock()
		}
		if !w.alive() {
			t.Errorf("dead though bytes came: %v", w.tether.err)
		}
	})
}

func TestIdleEnds(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.up()
		w.mu.Lock()
		w.away = true
		w.mu.Unlock()
		stop := w.keepAlive()
		time.Sleep(3 * time.Minute)
		if !w.alive() {
			t.Fatalf("it ended while the Master is away: %v", w.tether.err)
		}
		if err := w.Send(context.Background(), message("work")); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.away = false
		w.mu.Unlock()
		start := time.Now()
		<-w.Done()
		if took := time.Since(start); took < 59*time.Second || took > 62*time.Second {
			t.Errorf("it ended after %v", took)
		}
		if !errors.Is(w.tether.err, errIdle) {
			t.Errorf("why: %v", w.tether.err)
		}
		stop()
	})
}

// keepAlive has the far end beat once a second.
func (w *workbench) keepAlive() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := uint32(1); ; i++ {
			select {
			case <-quit:
				return
			case <-time.After(time.Second):
				h := wire.Heartbeat{Number: i}
				_ = w.far.write(h.Append(nil, i))
				w.hear()
			}
		}
	}()
	return func() { close(quit); <-done }
}

func TestUnwantedPeerEnds(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.up()
		stop := w.keepAlive()
		time.Sleep(10 * time.Second)
		if !w.alive() {
			t.Fatal(w.tether.err)
		}
		w.mu.Lock()
		w.end = identity.ErrRevoked
		w.mu.Unlock()
		start := time.Now()
		<-w.Done()
		if took := time.Since(start); took > checkEvery+idleBeat {
			t.Errorf("it took %v", took)
		}
		if !errors.Is(w.tether.err, identity.ErrRevoked) {
			t.Errorf("why: %v", w.tether.err)
		}
		stop()
	})
}

// TestAcknowledgement has messages acknowledged within ackDelay, or at once after ackEvery.
func TestAcknowledgement(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.up()
		time.Sleep(3 * time.Second) // idle
		w.farBeat(wire.Heartbeat{Number: 3})
		w.farBeat(wire.Heartbeat{Number: 1})
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		w.hear()
		w.say(message("one").Bytes())
		start := time.Now()
		var h []wire.Heartbeat
		for len(h) == 0 || h[len(h)-1].Links[0].Received == 0 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
			h = append(h, w.beats(w.hear())...)
		}
		if took := time.Since(start); took > ackDelay+3*time.Millisecond {
			t.Errorf("one message was acknowledged after %v", took)
		}
		last := h[len(h)-1]
		if last.N != 1 || last.Links[0] != (wire.LinkReport{Link: 5, Received: 1, Bitmap: 0b101}) || last.Echo != 3 {
			t.Errorf("acknowledgement %+v", last)
		}
		for i := range ackEvery {
			w.say(message(fmt.Sprint(i)).Bytes())
		}
		start = time.Now()
		for h[len(h)-1].Links[0].Received != 1+ackEvery {
			time.Sleep(100 * time.Microsecond)
			synctest.Wait()
			h = append(h, w.beats(w.hear())...)
		}
		if took := time.Since(start); took > 3*time.Millisecond {
			t.Errorf("%d messages were acknowledged after %v", ackEvery, took)
		}
	})
}

func TestAcknowledgementsAreTaken(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.up()
		for range 5 {
			if err := w.Send(context.Background(), message("work")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		report := func(link uint32, n uint64) {
			h := wire.Heartbeat{Number: 1, N: 1}
			h.Links[0] = wire.LinkReport{Link: link, Received: n}
			w.farBeat(h)
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
		}
		acked := func() uint64 {
			w.tether.mu.Lock()
			defer w.tether.mu.Unlock()
			return w.acked
		}
		for _, tt := range []struct {
			link    uint32
			n, want uint64
		}{{5, 3, 3}, {5, 2, 3}, {6, 4, 3}, {5, 1 << 60, 5}} {
			if report(tt.link, tt.n); acked() != tt.want {
				t.Errorf("after a report of %d for link %d: %d acknowledged", tt.n, tt.link, acked())
			}
		}
	})
}

// TestMessagesAheadOfHello: an unordered channel may deliver them first; they wait.
func TestMessagesAheadOfHello(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		for i := range earlyMessages + 1 {
			w.say(message(fmt.Sprint(i)).Bytes())
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if _, _, n := w.sink.counts(); n != 0 {
			t.Fatalf("%d messages were delivered before the hello", n)
		}
		if n := w.drops("before hello"); n != 1 {
			t.Errorf("before hello: %d", n)
		}
		w.up()
		synctest.Wait()
		if _, _, n := w.sink.counts(); n != earlyMessages {
			t.Errorf("%d messages were delivered after it", n)
		}
	})
}

func TestGateHoldsTheReader(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.say((&wire.Hello{Session: farSession, Peer: nearSession, Window: wire.MinWindow}).Append(nil, 1))
		w.say(message("early").Bytes())
		time.Sleep(time.Second)
		synctest.Wait()
		if _, _, n := w.sink.counts(); n != 0 {
			t.Fatal("a message was delivered before Up")
		}
		w.sink.Up(w.tether)
		w.admit()
		synctest.Wait()
		if _, _, n := w.sink.counts(); n != 1 {
			t.Fatal("the message was not delivered after Up")
		}
	})
}

func TestHelloRefused(t *testing.T) {
	for name, h := range map[string]wire.Hello{
		"another session":    {Session: identity.Nonce{3}, Peer: nearSession, Window: 500},
		"to another session": {Session: farSession, Peer: identity.Nonce{3}, Window: 500},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, time.Millisecond, func(w *workbench) {
				w.say(h.Append(nil, 1))
				<-w.Done()
				if w.drops("hello refused") != 1 || !errors.Is(w.tether.err, errHello) {
					t.Errorf("hello refused: %d, %v", w.drops("hello refused"), w.tether.err)
				}
			})
		})
	}
}

// TestFrameDrops forces each counter of what a neighbour may send to 1, and nothing else is
// lost by it.
func TestFrameDrops(t *testing.T) {
	hello := (&wire.Hello{Session: farSession, Peer: nearSession, Window: 500}).Append(nil, 2)
	beat := (&wire.Heartbeat{Number: 1}).Append(nil, 3)
	for _, tt := range []struct {
		drop string
		p    []byte
	}{
		{"malformed frame", []byte{1}},
		{"malformed frame", []byte{}},
		{"malformed frame", []byte{1, 0x80}},
		{"malformed frame", append([]byte{2}, hello[1:]...)},
		{"malformed frame", hello[:len(hello)-1]},
		{"malformed frame", beat[:len(beat)-1]},
		{"unknown frame", []byte{1, 0x8a, 0, 0, 0, 1}},
		{"unknown frame", []byte{1, 0xff, 0, 0, 0, 1}},
		{"unknown frame", []byte{1, byte(wire.FrameAdverts), 0, 0, 0, 1}},
		{"unexpected hello", hello},
		{"oversized", make([]byte, wire.MaxMessage+1)},
		{"oversized", make([]byte, 5*wire.MaxMessage)},
	} {
		t.Run(fmt.Sprintf("%s of %d bytes", tt.drop, len(tt.p)), func(t *testing.T) {
			bubble(t, time.Millisecond, func(w *workbench) {
				w.up()
				w.say(tt.p)
				w.say(message("next").Bytes())
				time.Sleep(10 * time.Millisecond)
				synctest.Wait()
				if n := w.drops(tt.drop); n != 1 {
					t.Errorf("%s: %d", tt.drop, n)
				}
				if d := w.stats.Stage("tether").Snapshot().Dropped(); d != 1 {
					t.Errorf("%d drops in all", d)
				}
				if _, _, n := w.sink.counts(); n != 1 || !w.alive() {
					t.Errorf("of the message behind it, %d came; alive: %v", n, w.alive())
				}
			})
		})
	}
}

// TestFrameEveryBit flips every bit of the two frames. Each flip is counted, ends the tether, or is
// in a field that only DTLS protects: those are named.
func TestFrameEveryBit(t *testing.T) {
	// Byte ranges that may say anything.
	free := map[byte][][2]int{
		byte(wire.FrameHello):     {{2, 6}, {70, 78}, {78, 80}},                    // frame number, list number, W in its range
		byte(wire.FrameHeartbeat): {{2, 6}, {6, 10}, {10, 14}, {14, 18}, {19, 39}}, // all but version, kind and count
	}
	hb := wire.Heartbeat{Number: 3, Echo: 1, Hold: 9, N: 1}
	hb.Links[0] = wire.LinkReport{Link: 5, Received: 1, Bitmap: 1}
	for _, frame := range [][]byte{
		(&wire.Hello{Session: farSession, Peer: nearSession, List: 7, Window: 600}).Append(nil, 1),
		hb.Append(nil, 2),
	} {
		for bit := range len(frame) * 8 {
			flipped := bytes.Clone(frame)
			flipped[bit/8] ^= 1 << (bit % 8)
			isFree := false
			for _, r := range free[frame[1]] {
				isFree = isFree || r[0] <= bit/8 && bit/8 < r[1]
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorkbench(t, time.Microsecond)
				w.say(flipped)
				time.Sleep(time.Millisecond)
				synctest.Wait()
				before := w.helloed.Load()
				if frame[1] == byte(wire.FrameHello) && !before && w.alive() && !wire.IsFrame(flipped) {
					w.up() // it passes for a message, which waits for a hello and goes to the Receiver
					synctest.Wait()
				} else if frame[1] != byte(wire.FrameHello) {
					w.up()
					synctest.Wait()
				}
				dropped := w.stats.Stage("tether").Snapshot().Dropped()
				_, _, messages := w.sink.counts()
				switch {
				case isFree && w.alive():
				case dropped == 1, messages == 1:
				default:
					t.Errorf("frame %x, bit %d: nothing noticed", frame[1], bit)
				}
				if before && frame[1] == byte(wire.FrameHello) {
					w.tether.end(errEnded)
				}
				w.stop()
			})
		}
	}
}

// TestWaitAndWake has writers wait for room on a path that is gone: they wake by deadline, by
// the end of the tether and by death.
func TestWaitAndWake(t *testing.T) {
	full := func(w *workbench) {
		w.up()
		w.ether.set(true)
		for { // until the queue is full and stays full
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			err := w.Send(ctx, block(60000))
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				return
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}
	}
	t.Run("deadline", func(t *testing.T) {
		bubble(t, time.Millisecond, func(w *workbench) {
			full(w)
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			if err := w.WaitRoom(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 300*time.Millisecond {
				t.Errorf("WaitRoom returned %v after %v", err, time.Since(start))
			}
			if err := w.Send(ctx, block(1)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrDown) {
				t.Errorf("Send returned %v", err)
			}
			w.ether.set(false)
		})
	})
	for _, how := range []string{"end", "death"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, time.Millisecond, func(w *workbench) {
				full(w)
				errs := make([]error, 2)
				var wg sync.WaitGroup
				var woken atomic.Int32
				wg.Go(func() { errs[0] = w.Send(context.Background(), block(1)); woken.Add(1) })
				wg.Go(func() { errs[1] = w.WaitRoom(context.Background()); woken.Add(1) })
				synctest.Wait()
				if woken.Load() != 0 {
					t.Fatal("a writer did not wait")
				}
				start := time.Now()
				if how == "end" {
					w.tether.end(errEnded)
				}
				wg.Wait()
				for _, err := range errs {
					if !errors.Is(err, ErrDown) {
						t.Errorf("a writer got %v", err)
					}
				}
				if took := time.Since(start); how == "end" && took != 0 || took > 3*time.Second {
					t.Errorf("it took %v", took)
				}
				<-w.finished
				if w.drops("tether down") == 0 {
					t.Error("what was not sent is not counted")
				}
				w.ether.set(false)
			})
		})
	}
}

// TestDropTetherDown forces "tether down" to exactly 1: one message waits when the tether ends.
func TestDropTetherDown(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.up()
		w.ether.set(true)
		for w.far.e.isDown() {
			n := w.sent.Load()
			if err := w.Send(context.Background(), block(60000)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if w.sent.Load() == n { // the writer waits with this one
				break
			}
		}
		w.tether.end(errEnded)
		<-w.finished
		if n := w.drops("tether down"); n != 1 {
			t.Errorf("tether down: %d", n)
		}
		w.ether.set(false)
	})
}

func block(n int) *buffer.Buf {
	m := buffer.Get(n)
	clear(m.Extend(n))
	if n > 1 {
		m.Bytes()[0], m.Bytes()[1] = 1, 1
	}
	return m
}

func TestSendRefusesTooLong(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.up()
		m := block(wire.MaxMessage)
		m.Extend(1)
		if err := w.Send(context.Background(), m); !errors.Is(err, wire.ErrTooLong) {
			t.Errorf("Send returned %v", err)
		}
		if err := w.Send(context.Background(), block(wire.MaxMessage)); err != nil {
			t.Errorf("the longest message: %v", err)
		}
	})
}

// TestEverySizeArrives passes through the reader's copying and not copying.
func TestEverySizeArrives(t *testing.T) {
	bubble(t, time.Millisecond, func(w *workbench) {
		w.up()
		var want [][]byte
		for _, n := range []int{2, 3, 44, 511, 512, 513, 2048, 8192, copyBelow - 1, copyBelow, copyBelow + 1, 37500, wire.MaxMessage} {
			p := make([]byte, n)
			binary.BigEndian.PutUint16(p, 0x0101)
			for i := 2; i < n; i++ {
				p[i] = byte(i * n)
			}
			w.say(p)
			want = append(want, p)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		w.sink.mu.Lock()
		defer w.sink.mu.Unlock()
		if len(w.sink.messages) != len(want) {
			t.Fatalf("%d of %d messages", len(w.sink.messages), len(want))
		}
		for i, p := range want {
			if !bytes.Equal(w.sink.messages[i], p) {
				t.Errorf("the message of %d bytes changed", len(p))
			}
		}
	})
}

func TestInfoCounts(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(w *workbench) {
		w.up()
		if err := w.Send(context.Background(), block(1000)); err != nil {
			t.Fatal(err)
		}
		w.say(block(300).Bytes())
		for i := range uint32(3) {
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			hs := w.beats(w.hear())
			if len(hs) == 0 {
				t.Fatal("no heartbeat")
			}
			w.farBeat(wire.Heartbeat{Number: i + 1, Echo: hs[len(hs)-1].Number, Hold: uint32((200*time.Millisecond - w.ether.delay).Microseconds() / 2)})
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		i := w.Info()
		if i.Sent != 1000 || i.Got != 300 || i.Links != 1 || i.Path != PathDirect || i.RTT == 0 || i.MinRTT == 0 || i.Heard.IsZero() {
			t.Errorf("info %+v", i)
		}
		if w.ID() != (identity.ID{9}) || w.Session() != farSession {
			t.Error("it is somebody else")
		}
		w.tether.end(errEnded)
		if i := w.Info(); i.Links != 0 || i.Path != PathNone {
			t.Errorf("afterwards %+v", i)
		}
	})
}

func TestPathKindNames(t *testing.T) {
	if PathNone.String() != "none" || PathDirect.String() != "direct" || PathRelayed.String() != "relayed" {
		t.Error("a kind of path has another name")
	}
}
