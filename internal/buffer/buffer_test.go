package buffer

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}

// Every size gets the head-room, the room and the tail-room that it was promised.
func TestGetKeepsItsPromises(t *testing.T) {
	for size := 0; size <= MaxSize; size += 1 + size/50 {
		b := Get(size)
		if b.Len() != 0 || b.Front() < Headroom || b.Room() < size+Tailroom {
			t.Fatalf("Get(%d): len %d, front %d, room %d", size, b.Len(), b.Front(), b.Room())
		}
		if !b.Born.IsZero() {
			t.Fatalf("Get(%d): Born is %v", size, b.Born)
		}
		b.Extend(size)
		b.Extend(Tailroom)
		b.Prepend(Headroom)
		b.Born = time.Now()
		b.Release()
	}
	for _, n := range classes { // the edges of the classes
		for _, size := range []int{n - Headroom - Tailroom - 1, n - Headroom - Tailroom} {
			b := Get(size)
			if len(b.block) != n {
				t.Errorf("Get(%d) has a block of %d, want %d", size, len(b.block), n)
			}
			b.Release()
		}
	}
	b := Get(MaxSize)
	if b.Room() < MaxSize+Tailroom {
		t.Errorf("Get(MaxSize): room %d", b.Room())
	}
	b.Release()
	mustPanic(t, "Get above MaxSize", func() { Get(MaxSize + 1) })
}

// The window against a model made of plain slices.
func TestWindowAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := Get(r.IntN(3000))
		front, room := b.Front(), b.Room()
		var want []byte
		for range 200 {
			n := r.IntN(40)
			fill := bytes.Repeat([]byte{byte(r.Uint32())}, n)
			switch r.IntN(6) {
			case 0:
				if n <= b.Room() {
					b.Append(fill)
					want = append(want, fill...)
					room -= n
				}
			case 1:
				if n <= b.Room() {
					copy(b.Extend(n), fill)
					want = append(want, fill...)
					room -= n
				}
			case 2:
				if n <= b.Front() {
					copy(b.Prepend(n), fill)
					want = append(fill, want...)
					front -= n
				}
			case 3:
				b.TrimFront(n)
				n = min(n, len(want))
				want = want[n:]
				front += n
			case 4:
				b.Truncate(n)
				if n < len(want) {
					room += len(want) - n
					want = want[:n]
				}
			case 5:
				block, off := b.Block()
				b.SetWindow(off, len(want))
				if &block[0] != &b.block[0] {
					t.Fatal("Block is another block")
				}
			}
			if !bytes.Equal(b.Bytes(), want) || b.Len() != len(want) || b.Front() != front || b.Room() != room {
				t.Fatalf("seed %d: window of %d bytes (front %d, room %d), want %d (%d, %d)",
					seed, b.Len(), b.Front(), b.Room(), len(want), front, room)
			}
		}
		b.Release()
	}
}

// Appending to what a Buf hands out must not run into what lies behind it.
func TestSlicesAreCapped(t *testing.T) {
	b := Get(100)
	defer b.Release()
	head := b.Extend(4)
	b.Append([]byte{5})
	_ = append(head, 9)
	_ = append(b.Prepend(2), 9)
	if got := b.Bytes()[6]; got != 5 {
		t.Errorf("append wrote %d over the next byte", got)
	}
	if w := b.Bytes(); cap(w) != len(w) {
		t.Errorf("window of %d bytes has capacity %d", len(w), cap(w))
	}
}

func TestMisuseOfTheWindowPanics(t *testing.T) {
	b := Get(10)
	defer b.Release()
	b.Append([]byte("ab"))
	mustPanic(t, "Extend beyond the room", func() { b.Extend(b.Room() + 1) })
	mustPanic(t, "Prepend beyond the front", func() { b.Prepend(b.Front() + 1) })
	mustPanic(t, "SetWindow beyond the block", func() { b.SetWindow(0, len(b.block)+1) })
	if string(b.Bytes()) != "ab" {
		t.Errorf("the window is %q after the panics", b.Bytes())
	}
}

func TestReferences(t *testing.T) {
	b := Get(10)
	if b.Retain() != b {
		t.Error("Retain returns another Buf")
	}
	b.Release()
	b.Append([]byte("still ours"))
	b.Release()
	mustPanic(t, "one Release too many", b.Release)

	c := &Buf{block: make([]byte, 512)}
	c.refs.Store(1)
	c.Release()
	mustPanic(t, "Retain after the last Release", func() { c.Retain() })
}

// A block is never with two owners: each writes its mark and finds it again.
func TestNoSharedBlocks(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			for range 3000 {
				n := r.IntN(9000)
				b := Get(n)
				w := b.Extend(n)
				for i := range w {
					w[i] = byte(g)
				}
				other := b.Retain()
				done := make(chan struct{})
				if r.IntN(50) == 0 {
					go func() { other.Release(); close(done) }()
				} else {
					other.Release()
					close(done)
				}
				for i, v := range b.Bytes() {
					if v != byte(g) {
						t.Errorf("byte %d is %d, want %d", i, v, g)
						break
					}
				}
				b.Release()
				<-done
			}
		})
	}
	wg.Wait()
}

func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops at random")
	}
	payload := make([]byte, 1400)
	if n := testing.AllocsPerRun(1000, func() {
		b := Get(len(payload))
		b.Append(payload)
		b.Prepend(44)
		b.Retain()
		b.Release()
		b.Release()
	}); n != 0 {
		t.Errorf("%v allocations per Buf", n)
	}
}

func BenchmarkGetRelease(b *testing.B) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			Get(1400).Release()
		}
	})
}
