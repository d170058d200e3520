package tether

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

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
