package netstack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// nic is the only interface of a stack.
const nic tcpip.NICID = 1

// Stack is a TCP/IP stack behind a packet device. All methods are safe for concurrent use.
type Stack struct {
	cfg  Config
	net  *stack.Stack
	link *link
	out  *queue.Queue[*buffer.Buf]
	gate atomic.Pointer[Gate]

	events chan tun.Event
	read   reader
	in     inbound

	ctx  context.Context // ended by Close
	stop context.CancelCauseFunc
	done chan struct{} // closed when Close is through

	mu     sync.Mutex
	closed bool
	users  sync.WaitGroup // calls that make endpoints
	open   map[aborter]struct{}
	// listeners are the TCP listeners among open.
	listeners map[*listener]struct{}
	closing   map[tcpip.Endpoint]struct{} // closed by the application, not ended yet
	sinks     map[flow]func(error)        // who wants to know that a flow's destination is unreachable
}

// aborter is a connection or listener that Close must end.
type aborter interface{ abort() }

// New starts a stack. It has a few goroutines of its own until Close.
func New(cfg Config) (*Stack, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("netstack: configuration: %w", err)
	}
	s := &Stack{
		cfg:       cfg,
		events:    make(chan tun.Event, 1),
		done:      make(chan struct{}),
		open:      make(map[aborter]struct{}),
		listeners: make(map[*listener]struct{}),
		closing:   make(map[tcpip.Endpoint]struct{}),
		sinks:     make(map[flow]func(error)),
	}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.out = queue.New(cfg.Queues, queue.Config{
		Name: "netstack.outbound", Capacity: cfg.QueueBytes, Unit: "bytes", Policy: queue.Admit,
	}, (*buffer.Buf).Len)
	stage := cfg.Stats.Stage("netstack")
	s.link = &link{
		mtu: uint32(cfg.MTU), out: s.out, limit: cfg.QueueBytes,
		sent:        &stage.Out,
		resets:      stage.Drop("reset over limit"),
		icmpReplies: stage.Drop("icmp over limit"),
		synAcks:     stage.Drop("syn-ack over limit"),
	}
	s.net = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        true,
	})
	s.read.init(stage)
	s.in.init(stage, s.net.Stats())
	if err := s.configure(); err != nil {
		s.Close()
		return nil, fmt.Errorf("netstack: configuration: %w", err)
	}
	s.events <- tun.EventUp
	cfg.Logger.Debug("netstack: up", "addrs", cfg.Addrs, "mtu", cfg.MTU)
	return s, nil
}

// configure sets gVisor's options, and interface, addresses and routes.
func (s *Stack) configure() error {
	if err := s.setOptions(); err != nil {
		return err
	}
	if err := s.net.CreateNIC(nic, s.link); err != nil {
		return fmt.Errorf("interface: %s", err)
	}
	for _, a := range s.cfg.Addrs {
		pa := tcpip.ProtocolAddress{Protocol: protocolOf(a), AddressWithPrefix: addressOf(a).WithPrefix()}
		if err := s.net.AddProtocolAddress(nic, pa, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("address %v: %s", a, err)
		}
	}
	for _, p := range s.routes() {
		ap := tcpip.AddressWithPrefix{Address: addressOf(p.Addr()), PrefixLen: p.Bits()}
		s.net.AddRoute(tcpip.Route{Destination: ap.Subnet(), NIC: nic})
	}
	return nil
}

// routes is Config.Routes, or everything of the families that the stack has.
func (s *Stack) routes() []netip.Prefix {
	if s.cfg.Routes != nil {
		return s.cfg.Routes
	}
	var out []netip.Prefix
	if s.ownAddr(true).IsValid() {
		out = append(out, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	if s.ownAddr(false).IsValid() {
		out = append(out, netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	}
	return out
}

// setOptions sets what differs from gVisor's defaults, or what must not change with them.
func (s *Stack) setOptions() error {
	// moderate makes gVisor offer a window scale for the largest buffer; see tcpConn.widen.
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	recovery, congestion := lossRecovery(runtime.GOOS), tcpip.CongestionControlOption("cubic")
	send := tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: min(startBuffer, s.cfg.SendBuffer), Max: s.cfg.SendBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: min(startBuffer, s.cfg.ReceiveBuffer), Max: s.cfg.ReceiveBuffer}
	limit, retries := s.cfg.retransmission()
	maxRTO, maxRetries := tcpip.TCPMaxRTOOption(limit), tcpip.TCPMaxRetriesOption(retries)
	// Many short connections to one peer: a port may be used again after 1 s, since time
	// stamps tell the connections apart (RFC 6191).
	reuse := tcpip.TCPTimeWaitReuseGlobal
	for _, opt := range []tcpip.SettableTransportProtocolOption{
		&sack, &moderate, &recovery, &congestion, &send, &receive, &maxRTO, &maxRetries, &reuse,
	} {
		if err := s.net.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("option %T: %s", opt, err)
		}
	}
	datagrams := tcpip.ReceiveBufferSizeOption{Min: minBuffer, Default: datagramBuffer, Max: datagramBuffer}
	if err := s.net.SetOption(datagrams); err != nil {
		return fmt.Errorf("option %T: %s", datagrams, err)
	}
	return nil
}

// lossRecovery is RACK (RFC 8985), which keeps the rate of a path that reorders a little, but
// not where the clock is coarse: with ticks of 500 us this gVisor takes segments for lost that
// are not (google/gvisor#9778).
func lossRecovery(goos string) tcpip.TCPRecovery {
	switch goos {
	case "windows", "js":
		return 0
	}
	return tcpip.TCPRACKLossDetection
}

// Close ends the stack: every pending and later call returns net.ErrClosed (the device's
// methods also match os.ErrClosed), TCP connections are reset, and no goroutine of the stack
// is left. It is legal in any state; further calls wait for the first and return nil.
//
// What the stack still sends, the resets among it, can be read from the device by a reader
// that is waiting, until the device is empty.
func (s *Stack) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	s.mu.Unlock()

	s.stop(net.ErrClosed)
	s.users.Wait() // from here on no endpoint is made by this package
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for a := range open {
		a.abort()
	}
	s.link.detach() // and none by packets from the device
	s.net.Close()
	s.net.Wait()
	s.out.Close()
	s.read.drain(s.out)
	close(s.events)
	close(s.done)
	s.cfg.Logger.Debug("netstack: closed", "addrs", s.cfg.Addrs)
	return nil
}

// begin enters a call that makes an endpoint; end leaves it. Close waits in between.
func (s *Stack) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.users.Add(1)
	return nil
}

func (s *Stack) end() { s.users.Done() }

// bind returns a context that ends with ctx, and with the stack.
func (s *Stack) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(net.ErrClosed) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

// track makes Close end a; the caller is between begin and end. It reports false if the stack
// has been closed: then the caller ends a itself.
func (s *Stack) track(a aborter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return false
	}
	s.open[a] = struct{}{}
	return true
}

func (s *Stack) untrack(a aborter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, a)
}

// watch makes f hear of errors about packets of flow fl; it must not wait. The returned
// function ends that.
func (s *Stack) watch(fl flow, f func(error)) (forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sinks[fl] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.sinks, fl)
	}
}

func (s *Stack) sink(fl flow) func(error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sinks[fl]
}

// isOwn reports whether a is an address of this node.
func (s *Stack) isOwn(a netip.Addr) bool { return slices.Contains(s.cfg.Addrs, a) }

// ownAddr is the first own address of a family; the zero Addr if there is none.
func (s *Stack) ownAddr(v4 bool) netip.Addr {
	for _, a := range s.cfg.Addrs {
		if a.Is4() == v4 {
			return a
		}
	}
	return netip.Addr{}
}

// protocolOf, addressOf, fullOf and addrPortOf translate between netip and gVisor.

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

func addressOf(a netip.Addr) tcpip.Address {
	if a.Is4() {
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

func fullOf(ap netip.AddrPort) tcpip.FullAddress {
	f := tcpip.FullAddress{Port: ap.Port()}
	if a := ap.Addr(); a.IsValid() && !a.IsUnspecified() {
		f.Addr = addressOf(a)
	}
	return f
}

func addrPortOf(f tcpip.FullAddress, wild netip.Addr) netip.AddrPort {
	a, ok := netip.AddrFromSlice(f.Addr.AsSlice())
	if !ok {
		a = wild
	}
	return netip.AddrPortFrom(a.Unmap(), f.Port)
}

var _ tun.Device = (*Stack)(nil)
