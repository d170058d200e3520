//go:build !js

package peers

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/webrtc/v4"
)

// rawConn is one end of a data channel as a net.Conn. Close drops what is not yet sent.
type rawConn struct {
	pc      *webrtc.PeerConnection
	channel *webrtc.DataChannel
	rw      datachannel.ReadWriteCloserDeadliner
	onClose func() // may be nil; set before the connection is handed out

	readMu  sync.Mutex
	message []byte // buffer of one message; guarded by readMu
	rest    []byte // what Read has not yet handed out of it; guarded by readMu

	writeMu sync.Mutex
	low     chan struct{} // one token when the buffered amount fell to lowWater

	deadlineMu    sync.Mutex
	writeDeadline time.Time // guarded by deadlineMu

	closeOnce sync.Once
	closed    chan struct{} // closed by Close
	lostOnce  sync.Once
	lost      chan struct{} // closed when the peer connection ends
}

func newRawConn(pc *webrtc.PeerConnection, d *webrtc.DataChannel, rw datachannel.ReadWriteCloserDeadliner) *rawConn {
	c := &rawConn{
		pc: pc, channel: d, rw: rw,
		message: make([]byte, 65_535), // a shorter one could not take every message
		low:     make(chan struct{}, 1),
		closed:  make(chan struct{}),
		lost:    make(chan struct{}),
	}
	d.SetBufferedAmountLowThreshold(lowWater)
	d.OnBufferedAmountLow(func() {
		select {
		case c.low <- struct{}{}:
		default:
		}
	})
	// The low event never comes on a channel that ended: a waiting writer needs this one.
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateClosed || s == webrtc.PeerConnectionStateFailed {
			c.lostOnce.Do(func() { close(c.lost) })
		}
	})
	return c
}

// Read returns bytes of one message, the rest of it at the next call.
func (c *rawConn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.rest) == 0 {
		n, err := c.rw.Read(c.message)
		if err != nil {
			return 0, c.readError(err)
		}
		c.rest = c.message[:n]
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// readError tells an end that this side made from one that the other made.
func (c *rawConn) readError(err error) error {
	if isDone(c.closed) {
		return net.ErrClosed
	}
	if isDone(c.lost) {
		return io.EOF
	}
	return err
}

// Write cuts p into messages and waits while more than highWater bytes are buffered.
func (c *rawConn) Write(p []byte) (n int, err error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	for len(p) > 0 {
		if err := c.waitRoom(); err != nil {
			return n, err
		}
		part := p[:min(len(p), MessageSize)]
		if _, err := c.rw.Write(part); err != nil {
			return n, err
		}
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

// waitRoom waits for the buffered amount to fall. A deadline set meanwhile counts from the
// next wait.
func (c *rawConn) waitRoom() error {
	if isDone(c.closed) {
		return net.ErrClosed
	}
	if c.channel.BufferedAmount() <= highWater {
		return nil
	}
	var expired <-chan time.Time
	c.deadlineMu.Lock()
	deadline := c.writeDeadline
	c.deadlineMu.Unlock()
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		expired = t.C
	}
	for c.channel.BufferedAmount() > highWater {
		select {
		case <-c.low:
		case <-c.closed:
			return net.ErrClosed
		case <-c.lost:
			return io.ErrClosedPipe
		case <-expired:
			return os.ErrDeadlineExceeded
		}
	}
	return nil
}

// Close ends this side's peer connection, which ends the other side's.
func (c *rawConn) Close() error {
	err := net.ErrClosed
	c.closeOnce.Do(func() {
		close(c.closed)
		err = c.pc.GracefulClose()
		if c.onClose != nil {
			c.onClose()
		}
	})
	return err
}

func (c *rawConn) LocalAddr() net.Addr  { return rawAddr{} }
func (c *rawConn) RemoteAddr() net.Addr { return rawAddr{} }

func (c *rawConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *rawConn) SetReadDeadline(t time.Time) error { return c.rw.SetReadDeadline(t) }

// SetWriteDeadline holds for waits that begin afterwards.
func (c *rawConn) SetWriteDeadline(t time.Time) error {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	c.writeDeadline = t
	return nil
}

// rawAddr is the address of both ends: a data channel has none of its own.
type rawAddr struct{}

func (rawAddr) Network() string { return "webrtc" }
func (rawAddr) String() string  { return "loopback" }

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
