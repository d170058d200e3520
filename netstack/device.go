package netstack

import (
	"context"
	"os"
	"sync"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"

	"golang.zx2c4.com/wireguard/tun"
)

// batchSize is how many packets one Read or Write of the device takes at best.
const batchSize = 64

// reader is the state of the device's reading side.
type reader struct {
	mu    sync.Mutex
	batch [batchSize]*buffer.Buf
	short *stats.Counter
}

func (r *reader) init(stage *stats.Stage) { r.short = stage.Drop("short buffer") }

// drain releases what is left in a closed queue, unless somebody is reading it.
func (r *reader) drain(q *queue.Queue[*buffer.Buf]) {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	for n := q.TryPop(r.batch[:]); n > 0; n = q.TryPop(r.batch[:]) {
		releaseAll(r.batch[:n])
	}
}

func releaseAll(bufs []*buffer.Buf) {
	for i, b := range bufs {
		b.Release()
		bufs[i] = nil
	}
}

// Name implements tun.Device.
func (s *Stack) Name() (string, error) { return "netstack", nil }

// File implements tun.Device: there is no file.
func (s *Stack) File() *os.File { return nil }

// MTU implements tun.Device: the largest packet that Read returns, in bytes.
func (s *Stack) MTU() (int, error) { return s.cfg.MTU, nil }

// BatchSize implements tun.Device.
func (s *Stack) BatchSize() int { return batchSize }

// Events implements tun.Device: one tun.EventUp; the channel is closed by Close.
func (s *Stack) Events() <-chan tun.Event { return s.events }

// ReadBufs waits for at least one packet that the stack sends and moves up to len(dst) into
// dst, which must not be empty. Each has its reference, head-room and Born, the time the stack
// sent it. After Close it returns an error that matches net.ErrClosed and os.ErrClosed, once
// the packets that were left are read. Concurrent calls each get packets of their own; only
// one caller at a time sees packets in the order they were sent.
func (s *Stack) ReadBufs(dst []*buffer.Buf) (int, error) {
	n, err := s.out.Pop(context.Background(), dst)
	if err != nil {
		return 0, errDeviceClosed
	}
	return n, nil
}

// Read implements tun.Device: it waits for at least one packet that the stack sends and
// copies up to len(bufs) to offset in bufs. A packet longer than its buffer is dropped and
// counted ("short buffer"); buffers of offset + MTU bytes are long enough. Errors are those of
// ReadBufs, which copies less. Calls are taken one after the other.
func (s *Stack) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	s.read.mu.Lock()
	defer s.read.mu.Unlock()
	for {
		batch := s.read.batch[:min(len(bufs), batchSize)]
		n, err := s.ReadBufs(batch)
		if err != nil {
			return 0, err
		}
		got := 0
		for _, b := range batch[:n] {
			if len(bufs[got]) < offset+b.Len() {
				s.read.short.Inc()
				continue
			}
			sizes[got] = copy(bufs[got][offset:], b.Bytes())
			got++
		}
		releaseAll(batch[:n])
		if got > 0 {
			return got, nil
		}
	}
}
