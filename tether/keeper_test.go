package tether

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

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
