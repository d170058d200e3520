package netstack

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// tcpConn is a TCP connection. Reads are taken one after the other, and so are Writes, so
// that the bytes of one Write stay together.
type tcpConn struct {
	s             *Stack
	ep            tcpip.Endpoint
	wq            *waiter.Queue
	network       string
	local, remote *net.TCPAddr
	dst           netip.Addr

	reads, writes deadline
	closing       atomic.Bool
	// broken is why the connection ended, if not by FIN. gVisor tells that once; here it
	// stays, so that a reset that a Write has seen is no end of stream to the next Read.
	broken atomic.Pointer[syscall.Errno]

	rmu  sync.Mutex
	rbuf tcpip.SliceWriter // a field, because gVisor's interfaces would make a local escape
	rev  wakeup
	// rsize is the size of the receive buffer, rtaken what was read since it grew; see widen.
	rsize, rtaken int

	wmu  sync.Mutex
	wbuf bytes.Reader
	wev  wakeup
}

// newTCPConn wraps a connected endpoint.
func (s *Stack) newTCPConn(network string, ep tcpip.Endpoint, wq *waiter.Queue, local, remote netip.AddrPort) *tcpConn {
	c := &tcpConn{
		s: s, ep: ep, wq: wq, network: network,
		local:  net.TCPAddrFromAddrPort(local),
		remote: net.TCPAddrFromAddrPort(remote),
		dst:    remote.Addr(),
		rsize:  min(startBuffer, s.cfg.ReceiveBuffer),
	}
	c.reads.init()
	c.writes.init()
	c.rev.register(wq, waiter.ReadableEvents|waiter.EventRdHUp)
	c.wev.register(wq, waiter.WritableEvents)
	s.keepAlive(ep)
	return c
}

// keepAlive makes the endpoint notice that its peer has vanished (Config.KeepAlive).
func (s *Stack) keepAlive(ep tcpip.Endpoint) {
	idle, interval, count := s.cfg.keepAlive()
	i, n := tcpip.KeepaliveIdleOption(idle), tcpip.KeepaliveIntervalOption(interval)
	// These fail for a value out of range only, which withDefaults excludes.
	_ = ep.SetSockOpt(&i)
	_ = ep.SetSockOpt(&n)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, count)
	ep.SocketOptions().SetKeepAlive(true)
}

// Read implements net.Conn.
func (c *tcpConn) Read(b []byte) (int, error) {
	n, err := c.read(b)
	return n, opError("read", c.network, c.local, c.remote, err)
}

func (c *tcpConn) read(b []byte) (int, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	h := c.reads.current()
	for {
		if err := h.Err(); err != nil {
			return 0, err
		}
		if len(b) == 0 {
			return 0, nil
		}
		c.rbuf = b
		res, err := c.ep.Read(&c.rbuf, tcpip.ReadOptions{})
		c.rbuf = nil
		if err == nil {
			c.widen(res.Count)
			return res.Count, nil
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			return 0, c.failure("read", err)
		}
		if err := c.rev.wait(h); err != nil {
			return 0, err
		}
	}
}

// widen doubles the receive buffer, up to its limit, whenever the application has read as
// much as it holds: connections that nobody reads stay small. It does so in place of gVisor's
// own tuning, which can forget to tell the peer that a window of 0 has opened, when a segment
// is half read while the buffer grows: the peer then waits for its probe, 200 ms.
func (c *tcpConn) widen(n int) {
	limit := c.s.cfg.ReceiveBuffer
	if c.rsize >= limit {
		return
	}
	if c.rtaken += n; c.rtaken < c.rsize {
		return
	}
	c.rtaken = 0
	c.rsize = min(2*c.rsize, limit)
	// An old size of 0 makes the handler announce the window in any case.
	size, announce := c.ep.(tcpip.SocketOptionsHandler).OnSetReceiveBufferSize(int64(c.rsize), 0)
	c.ep.SocketOptions().SetReceiveBufferSize(size, false)
	announce()
}

// Write implements net.Conn. It waits for room at the Gate, in the stack's outbound queue
// and in the connection's send buffer, and returns once that buffer has all of b.
func (c *tcpConn) Write(b []byte) (int, error) {
	n, err := c.write(b)
	return n, opError("write", c.network, c.local, c.remote, err)
}

func (c *tcpConn) write(b []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	h := c.writes.current()
	if err := h.Err(); err != nil {
		return 0, err
	}
	n := 0
	for n < len(b) {
		if err := c.s.admit(h, c.dst); err != nil {
			return n, err
		}
		c.wbuf.Reset(b[n:])
		m, err := c.ep.Write(&c.wbuf, tcpip.WriteOptions{})
		c.wbuf.Reset(nil)
		n += int(m)
		if err == nil {
			continue
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			return n, c.failure("write", err)
		}
		if err := c.wev.wait(h); err != nil {
			return n, err
		}
	}
	return n, nil
}

// failure translates an error of the endpoint, and keeps it if it ended the connection.
func (c *tcpConn) failure(call string, err tcpip.Error) error {
	if c.closing.Load() {
		return net.ErrClosed // the endpoint says the same in other words
	}
	switch err.(type) {
	case *tcpip.ErrClosedForReceive, *tcpip.ErrClosedForSend, *tcpip.ErrNotConnected:
		if e := c.broken.Load(); e != nil {
			return os.NewSyscallError(call, *e)
		}
		if tcp.EndpointState(c.ep.State()) == tcp.StateError {
			return os.NewSyscallError(call, syscall.ECONNRESET)
		}
		if call == "read" {
			return io.EOF
		}
		return os.NewSyscallError(call, syscall.EPIPE)
	}
	e := errnoOf(err)
	if errno, ok := e.(syscall.Errno); ok {
		c.broken.CompareAndSwap(nil, &errno)
		e = *c.broken.Load() // the first cause counts
	}
	return os.NewSyscallError(call, e)
}

// Close implements net.Conn. What was written is still delivered, as long as the stack runs
// (see Drain); the peer is reset if it has sent what nobody read. Pending and later calls return
// net.ErrClosed, and so does a second Close.
func (c *tcpConn) Close() error {
	if !c.shut() {
		return opError("close", c.network, c.local, c.remote, net.ErrClosed)
	}
	c.s.untrack(c)
	c.s.finish(c.ep, c.wq)
	return nil
}

// shut ends all calls; it reports false if that was done before.
func (c *tcpConn) shut() bool {
	if c.closing.Swap(true) {
		return false
	}
	c.reads.close()
	c.writes.close()
	return true
}

// abort resets the connection.
func (c *tcpConn) abort() {
	c.shut()
	c.ep.Abort()
}

// CloseWrite sends FIN behind what was written: the peer reads end of stream, and Read goes
// on. Later Writes return syscall.EPIPE.
func (c *tcpConn) CloseWrite() error {
	return c.shutdown(tcpip.ShutdownWrite)
}

// CloseRead ends Read, now and later, with io.EOF.
func (c *tcpConn) CloseRead() error {
	return c.shutdown(tcpip.ShutdownRead)
}

func (c *tcpConn) shutdown(how tcpip.ShutdownFlags) error {
	err := net.ErrClosed
	if !c.closing.Load() {
		err = sysError("shutdown", c.ep.Shutdown(how))
	}
	return opError("close", c.network, c.local, c.remote, err)
}

// LocalAddr implements net.Conn; it is a *net.TCPAddr.
func (c *tcpConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn; it is a *net.TCPAddr.
func (c *tcpConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *tcpConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *tcpConn) SetReadDeadline(t time.Time) error {
	return opError("set", c.network, nil, c.local, c.reads.set(t))
}

// SetWriteDeadline implements net.Conn.
func (c *tcpConn) SetWriteDeadline(t time.Time) error {
	return opError("set", c.network, nil, c.local, c.writes.set(t))
}
