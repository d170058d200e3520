package netstack

import (
	"sync"
	"time"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// synReserve is how far beyond the outbound queue's limit SYN-ACKs are admitted, in bytes:
// some ten thousand of them. A flood of SYNs is answered by SYN cookies, which nothing bounds.
const synReserve = 1 << 20

// link is gVisor's end of the device: what the stack sends goes into the outbound queue.
type link struct {
	mtu   uint32
	out   *queue.Queue[*buffer.Buf]
	limit int // capacity of out, in bytes

	sent                         *stats.Counter
	resets, icmpReplies, synAcks *stats.Counter // dropped

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher // nil: nothing is delivered any more
}

// WritePackets copies the packets into the outbound queue. It never waits (see the package
// comment). The copy ends the stack's part in the packet, so that no reference of a packet
// buffer outlives the call, and it is made here, in the goroutines of the senders, not in the
// one that reads the device.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	now := time.Now()
	for _, pkt := range pkts.AsSlice() {
		b := buffer.Get(pkt.Size())
		b.Born = now
		copyOut(b, pkt)
		if !l.push(b) {
			b.Release()
			continue
		}
		l.sent.Inc()
	}
	return pkts.Len(), nil
}

// copyOut appends the packet's bytes, headers first.
func copyOut(b *buffer.Buf, pkt *stack.PacketBuffer) {
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		p := v.AsSlice()
		if skip >= len(p) {
			skip -= len(p)
			continue
		}
		b.Append(p[skip:])
		skip = 0
	}
}

// push reports whether the queue took b. What it refuses is counted, except after Close.
func (l *link) push(b *buffer.Buf) bool {
	var over *stats.Counter
	switch kindOf(b.Bytes()) {
	case kindReset:
		over = l.resets
	case kindICMP:
		over = l.icmpReplies
	case kindSynAck:
		if l.out.Used() < l.limit+synReserve {
			return l.out.Force(b)
		}
		over = l.synAcks
	default:
		return l.out.Force(b)
	}
	if l.out.TryPush(b) {
		return true
	}
	over.Inc()
	return false
}

// deliver hands an inbound packet to the stack and ends the caller's reference. The caller
// holds mu for reading and has seen that there is a dispatcher.
func (l *link) deliver(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	l.dispatcher.DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// detach ends delivery and waits for the packets that are being delivered.
func (l *link) detach() { l.Attach(nil) }

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// The rest of stack.LinkEndpoint: a link without a header of its own and without addresses.

func (l *link) MTU() uint32                                { return l.mtu }
func (*link) SetMTU(uint32)                                {}
func (*link) MaxHeaderLength() uint16                      { return 0 }
func (*link) LinkAddress() tcpip.LinkAddress               { return "" }
func (*link) SetLinkAddress(tcpip.LinkAddress)             {}
func (*link) Capabilities() stack.LinkEndpointCapabilities { return stack.CapabilityNone }
func (*link) Wait()                                        {}
func (*link) ARPHardwareType() header.ARPHardwareType      { return header.ARPHardwareNone }
func (*link) AddHeader(*stack.PacketBuffer)                {}
func (*link) ParseHeader(*stack.PacketBuffer) bool         { return true }
func (*link) Close()                                       {}
func (*link) SetOnCloseAction(func())                      {}
