package netstack

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// The largest UDP payloads: 65,535 bytes less the headers that count into the length field.
const (
	maxDatagram4 = 65535 - ipv4Header - 8
	maxDatagram6 = 65535 - 8
)

// udpConn is a UDP socket, connected or not.
type udpConn struct {
	s       *Stack
	ep      tcpip.Endpoint
	network string
	local   *net.UDPAddr
	remote  *net.UDPAddr // nil: not connected
	dst     netip.AddrPort
	forget  func() // ends the watch for unreachables; nil: none

	reads, writes deadline
	closing       atomic.Bool
	// failed is what an ICMP error said since the last call, which the next call returns.
	failed atomic.Pointer[syscall.Errno]

	rmu  sync.Mutex
	rbuf tcpip.SliceWriter // fields, because gVisor's interfaces would make locals escape
	rev  wakeup
	wmu  sync.Mutex
	wbuf bytes.Reader
	wto  tcpip.FullAddress
	wev  wakeup
}

func (s *Stack) newUDPConn(network string, ep tcpip.Endpoint, wq *waiter.Queue, local, remote netip.AddrPort) *udpConn {
	c := &udpConn{s: s, ep: ep, network: network, local: net.UDPAddrFromAddrPort(local), dst: remote}
	if remote.IsValid() {
		c.remote = net.UDPAddrFromAddrPort(remote)
	}
	c.reads.init()
	c.writes.init()
	c.rev.register(wq, waiter.ReadableEvents)
	c.wev.register(wq, waiter.WritableEvents)
	return c
}

// fail makes the next call return err.
func (c *udpConn) fail(err error) {
	if errno, ok := err.(syscall.Errno); ok {
		c.failed.Store(&errno)
		c.rev.poke()
	}
}

// Read implements net.Conn: one datagram, cut off if b is too short.
func (c *udpConn) Read(b []byte) (int, error) {
	n, _, err := c.read(b)
	return n, c.opError("read", c.RemoteAddr(), err)
}

// ReadFrom implements net.PacketConn; the address is a *net.UDPAddr.
func (c *udpConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromUDPAddrPort is ReadFrom without allocating the address.
func (c *udpConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.read(b)
	return n, from, c.opError("read", c.RemoteAddr(), err)
}

func (c *udpConn) read(b []byte) (int, netip.AddrPort, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	h := c.reads.current()
	for {
		if err := h.Err(); err != nil {
			return 0, netip.AddrPort{}, err
		}
		if e := c.failed.Swap(nil); e != nil {
			return 0, netip.AddrPort{}, os.NewSyscallError("recvfrom", *e)
		}
		c.rbuf = b
		res, err := c.ep.Read(&c.rbuf, tcpip.ReadOptions{NeedRemoteAddr: true})
		c.rbuf = nil
		switch err.(type) {
		case nil, *tcpip.ErrBadBuffer: // the latter if b has no byte for a datagram that has
			return res.Count, addrPortOf(res.RemoteAddr, netip.Addr{}), nil
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrClosedForReceive:
			return 0, netip.AddrPort{}, net.ErrClosed
		default:
			return 0, netip.AddrPort{}, sysError("recvfrom", err)
		}
		if err := c.rev.wait(h); err != nil {
			return 0, netip.AddrPort{}, err
		}
	}
}

// Write implements net.Conn: it sends b as one datagram to the connected peer.
func (c *udpConn) Write(b []byte) (int, error) {
	if c.remote == nil {
		return 0, c.opError("write", nil, os.NewSyscallError("sendto", syscall.EDESTADDRREQ))
	}
	n, err := c.write(b, netip.AddrPort{})
	return n, c.opError("write", c.remote, err)
}

// WriteTo implements net.PacketConn; addr is a *net.UDPAddr, or prints as address and port.
func (c *udpConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, err := addrPort(addr)
	if err != nil {
		return 0, c.opError("write", addr, err)
	}
	return c.WriteToUDPAddrPort(b, to)
}

// WriteToUDPAddrPort sends b as one datagram to addr, which may be an IPv4 address on a
// socket of both families.
func (c *udpConn) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	if c.remote != nil {
		return 0, c.opError("write", udpAddr(addr), net.ErrWriteToConnected)
	}
	if addr.Port() == 0 || !addr.Addr().IsValid() {
		return 0, c.opError("write", udpAddr(addr), &net.AddrError{Err: "missing address or port", Addr: addr.String()})
	}
	n, err := c.write(b, c.s.destination(addr))
	if err != nil {
		return n, c.opError("write", udpAddr(addr), err)
	}
	return n, nil
}

// write sends to the connected peer if to is the zero value.
func (c *udpConn) write(b []byte, to netip.AddrPort) (int, error) {
	h := c.writes.current()
	if err := h.Err(); err != nil {
		return 0, err
	}
	if e := c.failed.Swap(nil); e != nil {
		return 0, os.NewSyscallError("sendto", *e)
	}
	dst := c.dst
	if to.IsValid() {
		dst = to
	}
	if limit := maxDatagram6; len(b) > limit || dst.Addr().Is4() && len(b) > maxDatagram4 {
		return 0, os.NewSyscallError("sendto", syscall.EMSGSIZE)
	}
	// Not under the lock: a destination without room must not hold up the others.
	if err := c.s.admit(h, dst.Addr()); err != nil {
		return 0, err
	}
	return c.send(b, to, h)
}

func (c *udpConn) send(b []byte, to netip.AddrPort, h *halt) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	var opts tcpip.WriteOptions
	if to.IsValid() {
		c.wto = fullOf(to)
		opts.To = &c.wto
	}
	for {
		c.wbuf.Reset(b)
		n, err := c.ep.Write(&c.wbuf, opts)
		c.wbuf.Reset(nil)
		switch err.(type) {
		case nil:
			c.s.in.count() // to an own address it has been delivered by now, or lost
			return int(n), nil
		case *tcpip.ErrWouldBlock: // cannot be: a datagram has left gVisor when Write returns
		default:
			if err := h.Err(); err != nil {
				return 0, err
			}
			return 0, sysError("sendto", err)
		}
		if err := c.wev.wait(h); err != nil {
			return 0, err
		}
	}
}

// Close implements net.Conn. Pending and later calls return net.ErrClosed, and so does a
// second Close.
func (c *udpConn) Close() error {
	if !c.shut() {
		return c.opError("close", c.RemoteAddr(), net.ErrClosed)
	}
	c.s.untrack(c)
	c.ep.Close()
	return nil
}

func (c *udpConn) shut() bool {
	if c.closing.Swap(true) {
		return false
	}
	c.reads.close()
	c.writes.close()
	if c.forget != nil {
		c.forget()
	}
	return true
}

func (c *udpConn) abort() {
	c.shut()
	c.ep.Close()
}

// LocalAddr implements net.Conn; it is a *net.UDPAddr.
func (c *udpConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn; it is a *net.UDPAddr, or nil if the socket is not connected.
func (c *udpConn) RemoteAddr() net.Addr {
	if c.remote == nil {
		return nil
	}
	return c.remote
}

// SetDeadline implements net.Conn.
func (c *udpConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *udpConn) SetReadDeadline(t time.Time) error {
	return opError("set", c.network, nil, c.local, c.reads.set(t))
}

// SetWriteDeadline implements net.Conn.
func (c *udpConn) SetWriteDeadline(t time.Time) error {
	return opError("set", c.network, nil, c.local, c.writes.set(t))
}

func (c *udpConn) opError(op string, addr net.Addr, err error) error {
	return opError(op, c.network, c.local, addr, err)
}

// addrPort reads the address of a datagram's destination.
func addrPort(a net.Addr) (netip.AddrPort, error) {
	switch a := a.(type) {
	case nil:
		return netip.AddrPort{}, &net.AddrError{Err: "missing address", Addr: "<nil>"}
	case *net.UDPAddr:
		if a == nil {
			return netip.AddrPort{}, &net.AddrError{Err: "missing address", Addr: "<nil>"}
		}
		return a.AddrPort(), nil
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ap, &net.AddrError{Err: "not an IP address and port", Addr: a.String()}
	}
	return ap, nil
}
