//go:build !js && !race

package netstack

// Pools lose items under the race detector, so this file is not built with it.

import (
	"net/netip"
	"testing"

	"github.com/veil-net/anchor/internal/buffer"
	gbuffer "gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// TestLinkAllocs: a packet passes the link endpoint, out and in, without an allocation.
func TestLinkAllocs(t *testing.T) {
	s := alone(t, Config{})
	var one [1]*buffer.Buf
	for _, size := range []int{100, 1400, 15000} {
		out := rawUDP(netip.AddrPortFrom(v6(1), 1), netip.AddrPortFrom(v6(2), 2), make([]byte, size))
		var list stack.PacketBufferList
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: gbuffer.MakeWithData(out)})
		defer pkt.DecRef()
		list.PushBack(pkt)
		if n := testing.AllocsPerRun(1000, func() {
			s.link.WritePackets(list)
			s.ReadBufs(one[:])
			one[0].Release()
		}); n != 0 {
			t.Errorf("%d bytes out: %v allocations", size, n)
		}
		// Inbound, up to where gVisor takes over.
		s.link.Attach(nowhere{})
		in := [][]byte{rawUDP(netip.AddrPortFrom(v6(2), 1), netip.AddrPortFrom(v6(3), 2), make([]byte, size))}
		if n := testing.AllocsPerRun(1000, func() { s.Write(in, 0) }); n != 0 {
			t.Errorf("%d bytes in: %v allocations", size, n)
		}
	}
}

// nowhere takes packets in gVisor's place.
type nowhere struct{ stack.NetworkDispatcher }

func (nowhere) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// TestAdmitAllocs: the common case of a Write, with room everywhere, allocates nothing of ours.
func TestAdmitAllocs(t *testing.T) {
	s := alone(t, Config{})
	s.SetGate(openGate{})
	h := newHalt()
	if n := testing.AllocsPerRun(1000, func() {
		if err := s.admit(h, v6(2)); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type openGate struct{ closedGate }

func (openGate) TryRoom(netip.Addr) bool { return true }
