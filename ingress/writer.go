package ingress

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/internal/buffer"
)

const (
	// maxWrite is how many packets are written at once at most: more than the largest that a
	// device joins to one.
	maxWrite = 64
	// writeOffset is the room before each packet that a device may ask for, for a header of its
	// own.
	writeOffset = 16
)

// writer writes packets to the device. It is safe for concurrent use.
type writer struct {
	device  tun.Device
	inPlace bool
	batch   int // packets in one write
	count   *counters
	logger  *slog.Logger
	single  atomic.Bool  // one packet in each call of the device
	said    atomic.Int64 // when a failure was last logged, in Unix nanoseconds

	// token is taken by who copies and writes: the blocks are large, and the device takes one
	// write at a time anyway.
	token chan *blocks
}

// blocks are where packets are copied to that need room before and behind: a device puts a
// header before each, and appends the packets that continue it.
type blocks struct {
	mem [][]byte // each of writeOffset + buffer.MaxSize, made when first used
	out [][]byte
}

func (w *writer) init(cfg *Config, count *counters) {
	_, w.inPlace = cfg.Device.(bufReader)
	w.device, w.count, w.logger = cfg.Device, count, cfg.Logger
	w.batch = min(max(w.device.BatchSize(), 1), maxWrite)
	w.single.Store(cfg.NoCoalescing)
	w.token = make(chan *blocks, 1)
	w.token <- &blocks{}
}

// write writes packets, at most w.batch, which it does not change. What the device refuses is
// counted.
func (w *writer) write(packets [][]byte) {
	if len(packets) == 0 {
		return
	}
	if !w.single.Load() {
		err := w.give(packets)
		if err == nil {
			w.took(len(packets))
			return
		}
		if len(packets) == 1 || !errors.Is(err, syscall.EINVAL) {
			w.refused(len(packets), err)
			return
		}
		// Some kernels refuse what the device joined to larger packets. Written again one by one,
		// some may go twice.
		if w.single.CompareAndSwap(false, true) {
			w.logger.Warn("the packet device refuses a batch, writing packets one by one from now on", "err", err)
		}
	}
	for i := range packets {
		if err := w.give(packets[i : i+1]); err != nil {
			w.refused(1, err)
		} else {
			w.took(1)
		}
	}
}

// give hands packets to the device in one call.
func (w *writer) give(packets [][]byte) error {
	if w.inPlace {
		_, err := w.device.Write(packets, 0)
		return err
	}
	b := <-w.token
	_, err := w.device.Write(b.fill(packets), writeOffset)
	w.token <- b
	return err
}

// fill copies packets into blocks.
func (b *blocks) fill(packets [][]byte) [][]byte {
	for len(b.mem) < len(packets) {
		b.mem = append(b.mem, make([]byte, writeOffset+buffer.MaxSize))
	}
	b.out = b.out[:0]
	for i, p := range packets {
		n := copy(b.mem[i][writeOffset:], p)
		b.out = append(b.out, b.mem[i][:writeOffset+n])
	}
	return b.out
}

func (w *writer) took(n int) { w.count.out.Add(uint64(n)) }

// refused counts packets that the device did not take. A device does not say which of a batch
// it took: all count.
func (w *writer) refused(n int, err error) {
	w.count.refused.Add(uint64(n))
	now, last := time.Now().UnixNano(), w.said.Load()
	if now-last >= int64(time.Minute) && w.said.CompareAndSwap(last, now) {
		w.logger.Warn("writing to the packet device fails", "err", err)
	}
}
