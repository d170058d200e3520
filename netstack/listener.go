package netstack

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlog is how many connections wait for Accept, and how many handshakes may be under way
// before SYN cookies take over, so that half-open connections keep nobody out.
const backlog = 1024

// ListenTCP listens on an own address, or on all of them if addr has none or an unspecified
// one; port 0 chooses a free port. network is "tcp", "tcp4" or "tcp6". As in package net,
// "tcp" without an address, or with "::", is one listener for IPv4 and IPv6, which takes the
// port of both families. It waits for nothing.
//
// Connections are as those of DialTCP. The listener also has SetDeadline(time.Time) error.
// After its Close, Accept and a second Close return net.ErrClosed, and connections that
// nobody has accepted are reset. While 1,024 connections wait for Accept, further ones are
// not answered, until their peer tries again.
func (s *Stack) ListenTCP(network string, addr netip.AddrPort) (net.Listener, error) {
	addr = s.normal(addr)
	l, err := s.listenTCP(network, addr)
	if err != nil {
		return nil, opError("listen", network, nil, tcpAddr(addr), err)
	}
	return l, nil
}

func (s *Stack) listenTCP(network string, addr netip.AddrPort) (*listener, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	const tries = 16 // a port chosen freely may be one that our own rule excludes
	for try := 1; ; try++ {
		l, err := s.newListener(network, addr)
		if err != nil {
			return nil, err
		}
		free, open := s.claim(l)
		if free && open {
			return l, nil
		}
		l.abort()
		if !open {
			return nil, net.ErrClosed
		}
		if addr.Port() != 0 || try == tries {
			return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
		}
	}
}

func (s *Stack) newListener(network string, addr netip.AddrPort) (*listener, error) {
	wq := new(waiter.Queue)
	ep, wild, err := s.bound(tcp.ProtocolNumber, wq, network, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := ep.Listen(backlog); err != nil {
		ep.Close()
		return nil, sysError("listen", err)
	}
	at, terr := ep.GetLocalAddress()
	if terr != nil {
		ep.Close()
		return nil, sysError("getsockname", terr)
	}
	l := &listener{s: s, ep: ep, network: network, at: addrPortOf(at, wild)}
	l.both = l.at.Addr() == netip.IPv6Unspecified() && !ep.SocketOptions().GetV6Only()
	l.addr = net.TCPAddrFromAddrPort(l.at)
	l.accepts.init()
	l.ev.register(wq, waiter.ReadableEvents)
	return l, nil
}

// claim makes Close end l, unless another listener has the port: gVisor lets listeners on
// one address and on all of them share a port if addresses may be reused, a kernel does not.
func (s *Stack) claim(l *listener) (free, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return true, false
	}
	for o := range s.listeners {
		if l.overlaps(o) {
			return false, true
		}
	}
	s.open[l] = struct{}{}
	s.listeners[l] = struct{}{}
	return true, true
}

func (s *Stack) unclaim(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, l)
	delete(s.listeners, l)
}

// bound makes an endpoint bound to addr, and returns the address that stands for all own
// addresses of its family. base is "tcp" or "udp".
func (s *Stack) bound(proto tcpip.TransportProtocolNumber, wq *waiter.Queue, network, base string, addr netip.AddrPort) (tcpip.Endpoint, netip.Addr, error) {
	wild, v6only, err := family(network, base, addr.Addr())
	if err != nil {
		return nil, wild, err
	}
	ep, terr := s.net.NewEndpoint(proto, protocolOf(wild), wq)
	if terr != nil {
		return nil, wild, sysError("socket", terr)
	}
	if wild.Is6() {
		ep.SocketOptions().SetV6Only(v6only)
	}
	if proto == header.TCPProtocolNumber {
		// As in package net: a listener may follow one whose connections still close.
		ep.SocketOptions().SetReuseAddress(true)
	}
	if terr := ep.Bind(fullOf(addr)); terr != nil {
		ep.Close()
		return nil, wild, sysError("bind", terr)
	}
	return ep, wild, nil
}

// family chooses the address family for a network and address: by the unspecified address of
// that family, and whether an IPv6 socket keeps to IPv6.
func family(network, base string, a netip.Addr) (wild netip.Addr, v6only bool, err error) {
	v4, v6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	mismatch := &net.AddrError{Err: "address of another family than " + network, Addr: a.String()}
	switch network {
	case base:
		if a.Is4() {
			return v4, false, nil
		}
		return v6, a.IsValid() && !a.IsUnspecified(), nil
	case base + "4":
		if a.Is6() {
			return v4, false, mismatch
		}
		return v4, false, nil
	case base + "6":
		if a.Is4() {
			return v6, true, mismatch
		}
		return v6, true, nil
	}
	return v6, false, errNetwork(network)
}

// listener is a TCP listener.
type listener struct {
	s       *Stack
	ep      tcpip.Endpoint
	network string
	addr    *net.TCPAddr
	at      netip.AddrPort // addr again
	both    bool           // listens on all addresses of both families

	accepts deadline
	closing atomic.Bool
	mu      sync.Mutex // one Accept at a time
	ev      wakeup
}

// overlaps reports whether a connection could be meant for both listeners.
func (l *listener) overlaps(o *listener) bool {
	if l.at.Port() != o.at.Port() {
		return false
	}
	a, b := l.at.Addr(), o.at.Addr()
	if a.Is4() != b.Is4() {
		return l.both || o.both
	}
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.accept()
	if err != nil {
		return nil, opError("accept", l.network, nil, l.addr, err)
	}
	return c, nil
}

func (l *listener) accept() (*tcpConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.accepts.current()
	for {
		if err := h.Err(); err != nil {
			return nil, err
		}
		ep, wq, err := l.ep.Accept(nil)
		if err == nil {
			return l.accepted(ep, wq)
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			if l.closing.Load() {
				return nil, net.ErrClosed
			}
			return nil, sysError("accept", err)
		}
		if err := l.ev.wait(h); err != nil {
			return nil, err
		}
	}
}

// accepted wraps an accepted endpoint. One that has been reset meanwhile is a connection too:
// its Read says so.
func (l *listener) accepted(ep tcpip.Endpoint, wq *waiter.Queue) (*tcpConn, error) {
	local, lerr := ep.GetLocalAddress()
	remote, rerr := ep.GetRemoteAddress()
	if rerr != nil { // gVisor forgets the peer of an endpoint that has failed
		remote = tcpip.FullAddress{}
	}
	if lerr != nil {
		local = tcpip.FullAddress{}
	}
	wild := netip.IPv6Unspecified()
	if err := l.s.begin(); err != nil {
		ep.Abort()
		return nil, err
	}
	defer l.s.end()
	c := l.s.newTCPConn(l.network, ep, wq, addrPortOf(local, wild), addrPortOf(remote, wild))
	if !l.s.track(c) {
		c.abort()
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close implements net.Listener.
func (l *listener) Close() error {
	if !l.shut() {
		return opError("close", l.network, nil, l.addr, net.ErrClosed)
	}
	l.s.unclaim(l)
	l.ep.Close()
	return nil
}

func (l *listener) shut() bool {
	if l.closing.Swap(true) {
		return false
	}
	l.accepts.close()
	return true
}

func (l *listener) abort() {
	l.shut()
	l.ep.Close()
}

// Addr implements net.Listener; it is a *net.TCPAddr.
func (l *listener) Addr() net.Addr { return l.addr }

// SetDeadline limits Accept, as net.TCPListener's does.
func (l *listener) SetDeadline(t time.Time) error {
	return opError("set", l.network, nil, l.addr, l.accepts.set(t))
}

// ListenUDP returns a UDP socket on an own address, or on all of them if addr has none or an
// unspecified one; port 0 chooses a free port. network is "udp", "udp4" or "udp6", with the
// families of ListenTCP. It waits for nothing.
//
// Datagrams are up to 65,507 bytes over IPv4 and 65,527 over IPv6; WriteTo returns
// syscall.EMSGSIZE for longer ones. A buffer that is too short cuts that datagram off, as on
// Unix. Unread datagrams beyond 208 KiB are lost ("socket overflow"). The socket also has
// ReadFromUDPAddrPort and WriteToUDPAddrPort, as *net.UDPConn does, which allocate less.
func (s *Stack) ListenUDP(network string, addr netip.AddrPort) (net.PacketConn, error) {
	addr = s.normal(addr)
	c, err := s.listenUDP(network, addr)
	if err != nil {
		return nil, opError("listen", network, nil, udpAddr(addr), err)
	}
	return c, nil
}

func (s *Stack) listenUDP(network string, addr netip.AddrPort) (*udpConn, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	wq := new(waiter.Queue)
	ep, wild, err := s.bound(udp.ProtocolNumber, wq, network, "udp", addr)
	if err != nil {
		return nil, err
	}
	at, terr := ep.GetLocalAddress()
	if terr != nil {
		ep.Close()
		return nil, sysError("getsockname", terr)
	}
	c := s.newUDPConn(network, ep, wq, addrPortOf(at, wild), netip.AddrPort{})
	if !s.track(c) {
		c.abort()
		return nil, net.ErrClosed
	}
	return c, nil
}
