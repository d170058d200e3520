package tuntest

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/internal/buffer"
)

// Device is a tun.Device that a test feeds with Feed and Fail, and that keeps what is written
// to it. Like a kernel's device it asks for room before each packet, uses that room and the
// capacity behind, and takes a Read of too few buffers for ErrTooManySegments. Set the fields
// before the first use; the zero value has a batch of 1 and asks for nothing.
type Device struct {
	// Batch is the batch size; 0 means 1.
	Batch int
	// Headroom is how many bytes before each packet Write asks for, and overwrites.
	Headroom int
	// Clobber makes Write scribble over the capacity behind each packet too, as a device does
	// that joins packets.
	Clobber bool
	// OnWrite, if not nil, runs in Write before the packets are kept; an error ends the Write.
	OnWrite func(packets [][]byte) error

	mu      sync.Mutex
	fed     []feed
	written [][]byte
	writes  int
	closed  bool
	more    chan struct{} // closed, and made anew, at every change
}

// feed is what one Read returns.
type feed struct {
	packets [][]byte
	err     error
}

// Feed makes a coming Read return packets; more than fit are cut off with ErrTooManySegments.
func (d *Device) Feed(packets ...[]byte) { d.feed(feed{packets: packets}) }

// Fail makes a coming Read return err.
func (d *Device) Fail(err error) { d.feed(feed{err: err}) }

func (d *Device) feed(f feed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fed = append(d.fed, f)
	d.changed()
}

// changed wakes all waiters. Called with mu held.
func (d *Device) changed() {
	if d.more != nil {
		close(d.more)
		d.more = nil
	}
}

// wait lets go of mu until the next change.
func (d *Device) wait() {
	if d.more == nil {
		d.more = make(chan struct{})
	}
	more := d.more
	d.mu.Unlock()
	<-more
	d.mu.Lock()
}

// next waits for a feed.
func (d *Device) next() feed {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.fed) == 0 && !d.closed {
		d.wait()
	}
	if len(d.fed) == 0 {
		return feed{err: os.ErrClosed}
	}
	f := d.fed[0]
	d.fed = d.fed[1:]
	return f
}

// Read implements tun.Device.
func (d *Device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	f := d.next()
	for i, p := range f.packets {
		if i == len(bufs) {
			return i, tun.ErrTooManySegments
		}
		if len(bufs[i])-offset < len(p) {
			return i, errors.New("tuntest: buffer is too short")
		}
		sizes[i] = copy(bufs[i][offset:], p)
	}
	return len(f.packets), f.err
}

// Write implements tun.Device.
func (d *Device) Write(bufs [][]byte, offset int) (int, error) {
	packets := make([][]byte, len(bufs))
	for i, b := range bufs {
		if offset < d.Headroom || offset > len(b)-1 {
			return 0, errors.New("tuntest: invalid offset")
		}
		packets[i] = b[offset:]
	}
	for i, b := range bufs { // all headers first: what shares room with another packet is spoilt
		copy(b[offset-d.Headroom:offset], bytes.Repeat([]byte{0xee}, d.Headroom))
		if d.Clobber {
			behind := packets[i][len(packets[i]):cap(packets[i])]
			copy(behind, bytes.Repeat([]byte{0xdd}, len(behind)))
		}
	}
	if d.OnWrite != nil {
		if err := d.OnWrite(packets); err != nil {
			return 0, err
		}
	}
	total := 0
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, os.ErrClosed
	}
	for _, p := range packets {
		total += len(p)
		d.written = append(d.written, bytes.Clone(p))
	}
	d.writes++
	d.changed()
	return total, nil
}

// Written returns the packets written so far, in order.
func (d *Device) Written() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([][]byte(nil), d.written...)
}

// Writes is the number of calls of Write that kept something.
func (d *Device) Writes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// WaitWritten waits until at least n packets have been written, and returns them.
func (d *Device) WaitWritten(n int) [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.written) < n && !d.closed {
		d.wait()
	}
	return append([][]byte(nil), d.written...)
}

// Close implements tun.Device: a waiting Read and all later calls return os.ErrClosed, once
// what was fed has been read.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	d.closed = true
	d.changed()
	return nil
}

// BatchSize implements tun.Device.
func (d *Device) BatchSize() int { return max(d.Batch, 1) }

// MTU implements tun.Device.
func (d *Device) MTU() (int, error) { return 1420, nil }

// Name implements tun.Device.
func (d *Device) Name() (string, error) { return "tuntest", nil }

// File implements tun.Device.
func (d *Device) File() *os.File { return nil }

// Events implements tun.Device.
func (d *Device) Events() <-chan tun.Event { return nil }

// BufDevice is a Device that gives its packets away in buffers, as an in-process stack does.
type BufDevice struct{ Device }

// ReadBufs waits for a Feed and moves its packets into dst; what does not fit is kept for the
// next call.
func (d *BufDevice) ReadBufs(dst []*buffer.Buf) (int, error) {
	f := d.next()
	if rest := len(f.packets) - len(dst); rest > 0 {
		d.mu.Lock()
		d.fed = append([]feed{{packets: f.packets[len(dst):], err: f.err}}, d.fed...)
		d.mu.Unlock()
		f = feed{packets: f.packets[:len(dst)]}
	}
	now := time.Now()
	for i, p := range f.packets {
		dst[i] = buffer.Get(len(p))
		dst[i].Append(p)
		dst[i].Born = now
	}
	return len(f.packets), f.err
}
