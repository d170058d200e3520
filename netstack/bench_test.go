//go:build !js

package netstack

import (
	"io"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"github.com/veil-net/anchor/internal/buffer"
	gbuffer "gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// BenchmarkTCP sends through two stacks joined by a copying pipe.
func BenchmarkTCP(b *testing.B) {
	for _, mtu := range []int{1280, 1500, 9000, DefaultMTU, 32000, 60000} {
		b.Run("mtu "+strconv.Itoa(mtu), func(b *testing.B) {
			x, y := two(b, Config{MTU: mtu})
			c, d := connected(x, y)
			var wg sync.WaitGroup
			wg.Go(func() { io.CopyBuffer(io.Discard, readerOnly{d}, make([]byte, 256<<10)) })
			p := make([]byte, 256<<10)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			c.Close()
			wg.Wait()
			d.Close()
		})
	}
}

// BenchmarkEcho is a round trip of 64 bytes.
func BenchmarkEcho(b *testing.B) {
	x, y := two(b, Config{})
	c, d := connected(x, y)
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(d, readerOnly{d}) })
	p := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(p)
		io.ReadFull(c, p)
	}
	c.Close()
	wg.Wait()
	d.Close()
}

// BenchmarkDial dials, accepts and closes.
func BenchmarkDial(b *testing.B) {
	x, y := two(b, Config{})
	l, at := y.listen()
	defer l.Close()
	b.ReportAllocs()
	for b.Loop() {
		c := x.dial(at)
		d, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		d.Close()
	}
}

// BenchmarkUDP sends datagrams of 1,200 bytes to a reader, one at a time.
func BenchmarkUDP(b *testing.B) {
	x, y := two(b, Config{})
	pc := y.listenUDP("udp", netip.AddrPort{})
	c := x.connectUDP(netip.AddrPortFrom(v6(2), pc.port()))
	p := make([]byte, 1200)
	b.SetBytes(1200)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(p)
		if _, _, err := pc.ReadFromUDPAddrPort(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLink is the link endpoint alone: out through the queue, and in to nobody.
func BenchmarkLink(b *testing.B) {
	for _, size := range []int{60, 1400, 15000, 59000} {
		s := alone(b, Config{})
		p := rawUDP(netip.AddrPortFrom(v6(1), 1), netip.AddrPortFrom(v6(2), 2), make([]byte, size))
		b.Run("out "+strconv.Itoa(size), func(b *testing.B) {
			var one [1]*buffer.Buf
			var list stack.PacketBufferList
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: gbuffer.MakeWithData(p)})
			list.PushBack(pkt)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				s.link.WritePackets(list)
				s.ReadBufs(one[:])
				one[0].Release()
			}
			pkt.DecRef()
		})
		b.Run("in "+strconv.Itoa(size), func(b *testing.B) {
			in := [][]byte{rawUDP(netip.AddrPortFrom(v6(2), 1), netip.AddrPortFrom(v6(3), 2), make([]byte, size))}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				s.Write(in, 0)
			}
		})
		s.Close()
	}
}
