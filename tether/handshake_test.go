package tether

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

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
