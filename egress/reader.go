package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/packet"
)

const (
	// readOffset is where packets start in read buffers: packet devices put headers of their
	// own before them, of up to 10 bytes.
	readOffset = 16
	// bufBatch is how many packets are taken at once from a source with ReadBufs.
	bufBatch = 64

	retryMin = time.Millisecond
	retryMax = time.Second
)

// errSourceClosed is what packet devices return once they are closed.
var errSourceClosed = os.ErrClosed

// errNothing says that a source returned neither a packet nor an error. It is treated as a
// fault, so that such a source cannot make the reader spin.
var errNothing = errors.New("egress: the source returned nothing")

// reader is the state of the goroutine that reads the source.
type reader struct {
	e    *Egress
	said time.Time // when a failure was last logged
	runs []run     // the packets of one read, by destination; runs[:used] are in use
	used int
}

// run are packets of one destination, in order.
type run struct {
	dst  netip.Addr
	bufs []*buffer.Buf
}

// read is the reader goroutine: it ends with the source.
func (e *Egress) read() {
	r := &reader{e: e}
	next := r.plain()
	if src, ok := e.cfg.Source.(bufReader); ok {
		next = r.buffers(src)
	}
	var wait time.Duration
	for {
		n, err := next()
		r.flush()
		if n == 0 && err == nil {
			err = errNothing
		}
		switch {
		case err == nil:
			wait = 0
		case errors.Is(err, tun.ErrTooManySegments):
			e.count.segments.Inc()
		case isEnd(err):
			e.sourceEnded(fmt.Errorf("egress: read source: %w", err))
			return
		default:
			if wait = r.retry(err, wait); wait == 0 {
				e.sourceEnded(net.ErrClosed)
				return
			}
		}
	}
}

// retry waits before a source that failed is read again, twice as long each time. It returns
// how long, and 0 if Close came first.
func (r *reader) retry(err error, last time.Duration) time.Duration {
	r.e.count.retries.Inc()
	if now := time.Now(); r.said.IsZero() || now.Sub(r.said) >= time.Minute {
		r.said = now
		r.e.cfg.Logger.Warn("reading the packet source fails, trying again", "err", err)
	}
	wait := min(max(2*last, retryMin), retryMax)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return wait
	case <-r.e.ctx.Done():
		return 0
	}
}

// buffers returns a function that reads once from a source that gives its packets away.
func (r *reader) buffers(src bufReader) func() (int, error) {
	dst := make([]*buffer.Buf, bufBatch)
	return func() (int, error) {
		n, err := src.ReadBufs(dst)
		now := time.Now()
		r.e.count.in.Add(uint64(n))
		var h packet.Header
		for i, b := range dst[:n] {
			dst[i] = nil
			if b.Born.IsZero() {
				b.Born = now
			}
			if !r.admit(b.Bytes(), &h) {
				b.Release()
				continue
			}
			r.add(h.Dst, b)
		}
		return n, err
	}
}

// plain returns a function that reads once from any other source, into buffers that hold the
// largest packet each: a kernel splits what it has coalesced into as many as it is offered,
// and loses the rest. What is to be sent is copied into a buffer of its size.
func (r *reader) plain() func() (int, error) {
	src := r.e.cfg.Source
	var bufs [][]byte
	var sizes []int
	return func() (int, error) {
		if bufs == nil {
			sizes = make([]int, src.BatchSize())
			bufs = make([][]byte, len(sizes))
			for i := range bufs {
				bufs[i] = make([]byte, readOffset+buffer.MaxSize)
			}
		}
		n, err := src.Read(bufs, sizes, readOffset)
		now := time.Now()
		r.e.count.in.Add(uint64(n))
		var h packet.Header
		for i := range n {
			p := bufs[i][readOffset : readOffset+sizes[i]]
			if !r.admit(p, &h) {
				continue
			}
			b := buffer.Get(len(p))
			b.Append(p)
			b.Born = now
			r.add(h.Dst, b)
		}
		return n, err
	}
}

// admit reads the headers of p and reports whether it is to be sent; if not, it is counted.
func (r *reader) admit(p []byte, h *packet.Header) bool {
	count := &r.e.count
	switch {
	case h.Parse(p) != nil:
		count.malformed.Inc()
	case packet.IsLinkScoped(h.Dst):
		count.ignored.Inc()
	case !slices.Contains(r.e.cfg.Local, h.Src):
		count.foreign.Inc()
	case slices.Contains(r.e.cfg.Local, h.Dst):
		count.own.Inc()
	case r.e.admits && h.IsReply() && !r.e.hasRoom(h.Dst):
		count.reply.Inc()
	default:
		return true
	}
	return false
}

// add puts a packet to the others of its destination. Sources give packets of one destination
// in a row, so the latest run comes first; there are at most as many as packets in a read.
func (r *reader) add(dst netip.Addr, b *buffer.Buf) {
	for i := r.used - 1; i >= 0; i-- {
		if r.runs[i].dst == dst {
			r.runs[i].bufs = append(r.runs[i].bufs, b)
			return
		}
	}
	if r.used == len(r.runs) {
		r.runs = append(r.runs, run{})
	}
	t := &r.runs[r.used]
	t.dst = dst
	t.bufs = append(t.bufs[:0], b)
	r.used++
}

// flush hands the runs to their destinations.
func (r *reader) flush() {
	for i := range r.runs[:r.used] {
		t := &r.runs[i]
		r.e.push(t.dst, t.bufs)
		clear(t.bufs)
	}
	r.used = 0
}
