package netstack

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// DialTCP connects to remote. local chooses own address and port; the zero AddrPort, or parts
// of it, leave the choice to the stack. An unspecified remote address is the node itself. It
// waits for room, then for the peer, as long as ctx and the stack last: without a limit in
// ctx it gives up after about two minutes with syscall.ETIMEDOUT. ctx has no effect on the
// connection afterwards.
//
// The connection also has CloseWrite() error and CloseRead() error. A peer that vanishes is
// noticed within Config.KeepAlive: Read and Write then return syscall.ETIMEDOUT.
func (s *Stack) DialTCP(ctx context.Context, local, remote netip.AddrPort) (net.Conn, error) {
	local, remote = s.normal(local), s.destination(remote)
	c, err := s.dialTCP(ctx, local, remote)
	if err != nil {
		return nil, opError("dial", "tcp", tcpAddr(local), tcpAddr(remote), err)
	}
	return c, nil
}

func (s *Stack) dialTCP(ctx context.Context, local, remote netip.AddrPort) (*tcpConn, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	ctx, release := s.bind(ctx)
	defer release()
	if err := checkDial(local, remote); err != nil {
		return nil, err
	}
	if err := s.admit(ctx, remote.Addr()); err != nil {
		return nil, err
	}
	wq := new(waiter.Queue)
	ep, err := s.endpoint(tcp.ProtocolNumber, wq, local, remote)
	if err != nil {
		return nil, err
	}
	if err := connect(ctx, ep, wq, remote); err != nil {
		ep.Close()
		return nil, err
	}
	at, terr := ep.GetLocalAddress()
	if terr != nil {
		ep.Close()
		return nil, sysError("getsockname", terr)
	}
	c := s.newTCPConn("tcp", ep, wq, addrPortOf(at, local.Addr()), remote)
	if !s.track(c) {
		c.abort()
		return nil, net.ErrClosed
	}
	return c, nil
}

// connect sends the SYN and waits for the handshake.
func connect(ctx context.Context, ep tcpip.Endpoint, wq *waiter.Queue, remote netip.AddrPort) error {
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	err := ep.Connect(fullOf(remote))
	if _, ok := err.(*tcpip.ErrConnectStarted); !ok {
		return sysError("connect", err)
	}
	for connecting(ep) {
		select {
		case <-ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err = ep.LastError()
	if _, ok := err.(*tcpip.ErrNetworkUnreachable); ok {
		err = &tcpip.ErrHostUnreachable{} // from here there is a route: somebody wrote back
	}
	if err != nil {
		return sysError("connect", err)
	}
	if tcp.EndpointState(ep.State()) == tcp.StateError {
		return os.NewSyscallError("connect", syscall.ECONNABORTED)
	}
	return nil
}

func connecting(ep tcpip.Endpoint) bool {
	switch tcp.EndpointState(ep.State()) {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return true
	}
	return false
}

// DialUDP returns a connected UDP socket: it sends to remote and takes from remote alone.
// local and remote are as in DialTCP. It waits for nothing; an unreachable peer shows as an
// error of a later Read or Write (syscall.ECONNREFUSED, EHOSTUNREACH).
//
// The connection is also a net.PacketConn, with net.ErrWriteToConnected from WriteTo.
func (s *Stack) DialUDP(ctx context.Context, local, remote netip.AddrPort) (net.Conn, error) {
	local, remote = s.normal(local), s.destination(remote)
	c, err := s.dialUDP(ctx, local, remote)
	if err != nil {
		return nil, opError("dial", "udp", udpAddr(local), udpAddr(remote), err)
	}
	return c, nil
}

func (s *Stack) dialUDP(ctx context.Context, local, remote netip.AddrPort) (*udpConn, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := checkDial(local, remote); err != nil {
		return nil, err
	}
	wq := new(waiter.Queue)
	ep, err := s.endpoint(udp.ProtocolNumber, wq, local, remote)
	if err != nil {
		return nil, err
	}
	if terr := ep.Connect(fullOf(remote)); terr != nil {
		ep.Close()
		return nil, sysError("connect", terr)
	}
	at, terr := ep.GetLocalAddress()
	if terr != nil {
		ep.Close()
		return nil, sysError("getsockname", terr)
	}
	c := s.newUDPConn("udp", ep, wq, addrPortOf(at, local.Addr()), remote)
	c.forget = s.watch(flow{proto: protoUDP, local: c.local.AddrPort(), remote: remote}, c.fail)
	if !s.track(c) {
		c.abort()
		return nil, net.ErrClosed
	}
	return c, nil
}

// endpoint makes an endpoint of remote's family, bound to local if that says anything.
func (s *Stack) endpoint(proto tcpip.TransportProtocolNumber, wq *waiter.Queue, local, remote netip.AddrPort) (tcpip.Endpoint, error) {
	ep, err := s.net.NewEndpoint(proto, protocolOf(remote.Addr()), wq)
	if err != nil {
		return nil, sysError("socket", err)
	}
	if local.Addr().IsValid() || local.Port() != 0 {
		if err := ep.Bind(fullOf(local)); err != nil {
			ep.Close()
			return nil, sysError("bind", err)
		}
	}
	return ep, nil
}

// checkDial refuses addresses that cannot be dialled.
func checkDial(local, remote netip.AddrPort) error {
	switch r := remote.Addr(); {
	case !r.IsValid():
		return &net.AddrError{Err: "missing address", Addr: remote.String()}
	case r.Zone() != "" || r.IsMulticast():
		return &net.AddrError{Err: "not the address of a node", Addr: remote.String()}
	case remote.Port() == 0:
		return &net.AddrError{Err: "missing port", Addr: remote.String()}
	case local.Addr().IsValid() && local.Addr().Is4() != r.Is4():
		return &net.AddrError{Err: "local address of another family", Addr: local.String()}
	}
	return nil
}

// normal takes the IPv4 address out of an IPv6-mapped one.
func (s *Stack) normal(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// destination is normal, with the node's own address in place of an unspecified one.
func (s *Stack) destination(ap netip.AddrPort) netip.AddrPort {
	ap = s.normal(ap)
	if !ap.Addr().IsUnspecified() {
		return ap
	}
	if own := s.ownAddr(ap.Addr().Is4()); own.IsValid() {
		return netip.AddrPortFrom(own, ap.Port())
	}
	return netip.AddrPortFrom(s.cfg.Addrs[0], ap.Port())
}

// tcpAddr and udpAddr return a nil interface for an address that says nothing.

func tcpAddr(ap netip.AddrPort) net.Addr {
	if !ap.Addr().IsValid() && ap.Port() == 0 {
		return nil
	}
	return net.TCPAddrFromAddrPort(ap)
}

func udpAddr(ap netip.AddrPort) net.Addr {
	if !ap.Addr().IsValid() && ap.Port() == 0 {
		return nil
	}
	return net.UDPAddrFromAddrPort(ap)
}
