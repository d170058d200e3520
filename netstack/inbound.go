package netstack

import (
	"bytes"
	"sync/atomic"
	"syscall"

	"github.com/veil-net/anchor/internal/stats"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// inbound counts what comes from the device.
type inbound struct {
	packets   *stats.Counter
	malformed *stats.Counter
	seen      []folded
}

func (in *inbound) init(stage *stats.Stage, st tcpip.Stats) {
	in.packets = &stage.In
	in.malformed = stage.Drop("malformed")
	in.seen = []folded{
		{to: in.malformed, from: []*tcpip.StatCounter{
			st.IP.MalformedPacketsReceived, st.IP.MalformedFragmentsReceived,
			st.TCP.InvalidSegmentsReceived, st.TCP.ChecksumErrors,
			st.UDP.MalformedPacketsReceived, st.UDP.ChecksumErrors,
			st.ICMP.V4.PacketsReceived.Invalid, st.ICMP.V6.PacketsReceived.Invalid,
			st.NICs.MalformedL4RcvdPackets,
		}},
		{to: stage.Drop("foreign address"), from: []*tcpip.StatCounter{
			st.IP.InvalidDestinationAddressesReceived, st.IP.InvalidSourceAddressesReceived,
		}},
		// No drop of the stack's: the application left its socket unread, as with a kernel.
		{to: stage.Note("socket overflow"), from: []*tcpip.StatCounter{st.UDP.ReceiveBufferErrors}},
	}
}

// folded carries counts of gVisor over into a counter of ours.
type folded struct {
	to   *stats.Counter
	from []*tcpip.StatCounter
	last atomic.Uint64
}

func (f *folded) fold() {
	var sum uint64
	for _, c := range f.from {
		sum += c.Value()
	}
	for {
		last := f.last.Load()
		if sum <= last {
			return
		}
		if f.last.CompareAndSwap(last, sum) {
			f.to.Add(sum - last)
			return
		}
	}
}

// count brings our counters up to date with gVisor's.
func (in *inbound) count() {
	for i := range in.seen {
		in.seen[i].fold()
	}
}

// Write implements tun.Device: it gives the stack packets from the overlay, which start at
// offset in each of bufs. It waits for nothing outbound. Packets that are malformed or not
// for this node are dropped and counted, which is no error. It returns the number of packets
// taken, and after Close an error that matches net.ErrClosed and os.ErrClosed. The caller
// keeps bufs, and Write does not change them.
func (s *Stack) Write(bufs [][]byte, offset int) (int, error) {
	s.link.mu.RLock()
	defer s.link.mu.RUnlock()
	if s.link.dispatcher == nil {
		return 0, errDeviceClosed
	}
	n := 0
	for _, b := range bufs {
		if s.inject(b[min(offset, len(b)):]) {
			n++
		}
	}
	s.in.packets.Add(uint64(len(bufs)))
	s.in.count()
	return n, nil
}

// inject delivers one packet and reports whether its lengths are right.
func (s *Stack) inject(p []byte) bool {
	version, length, ok := ipLength(p)
	if !ok {
		s.in.malformed.Inc()
		return false
	}
	p = p[:length]
	if fl, icmp, ok := unreachable(p); ok {
		p = s.unreachable(p, fl, icmp)
	}
	proto := header.IPv4ProtocolNumber
	if version == 6 {
		proto = header.IPv6ProtocolNumber
	}
	s.link.deliver(proto, stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)}))
	return true
}

// unreachable tells the connection that packet p is about, an ICMP "destination unreachable".
// gVisor does it for TCP, and for UDP if it is the port that is unreachable; of IPv6 it knows
// codes 0 and 4 only, so the others are given to it as 0.
func (s *Stack) unreachable(p []byte, fl flow, icmp []byte) []byte {
	v6 := p[0]>>4 == 6
	if v6 && icmp[1] == icmpv6Port || !v6 && (icmp[1] == icmpPort || icmp[1] == icmpTooBig) {
		return p
	}
	if f := s.sink(fl); f != nil {
		f(syscall.EHOSTUNREACH)
	}
	if v6 && icmp[1] != icmpv6NoRoute {
		at := len(p) - len(icmp)
		p = bytes.Clone(p)
		setCode(p[at:], icmpv6NoRoute)
	}
	return p
}
