package ingress

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/stream"
)

// sink is a device that takes everything and keeps nothing.
type sink struct{ packets int }

func (s *sink) Write(bufs [][]byte, _ int) (int, error) { s.packets += len(bufs); return 0, nil }
func (s *sink) Read([][]byte, []int, int) (int, error)  { return 0, os.ErrClosed }
func (s *sink) BatchSize() int                          { return 128 }
func (s *sink) MTU() (int, error)                       { return 1420, nil }
func (s *sink) Name() (string, error)                   { return "sink", nil }
func (s *sink) File() *os.File                          { return nil }
func (s *sink) Events() <-chan tun.Event                { return nil }
func (s *sink) Close() error                            { return nil }

// inProcessSink is a sink that takes packets where they lie.
type inProcessSink struct{ sink }

func (s *inProcessSink) ReadBufs([]*buffer.Buf) (int, error) { return 0, os.ErrClosed }

// plain is an Inbound that costs nothing: its messages are not sealed.
type plain struct {
	cert     *identity.Certificate
	consumed chan struct{}
	left     int
}

func (p *plain) ID() wire.StreamID           { return wire.StreamID{1} }
func (p *plain) Predecessor() wire.StreamID  { return wire.StreamID{} }
func (p *plain) Peer() *identity.Certificate { return p.cert }
func (p *plain) Missing()                    {}

func (p *plain) Open(m *buffer.Buf) (d stream.Data, err error) {
	d.Number = binary.BigEndian.Uint64(m.Bytes())
	err = d.Body.Parse(m.Bytes()[headLen:])
	return d, err
}

func (p *plain) Consumed(size int) {
	if p.left -= size; p.left == 0 {
		p.consumed <- struct{}{}
	}
}

// harness sends messages of 25 packets through an Ingress, a round of openBatch at a time.
type harness struct {
	*Ingress
	in     *plain
	s      stream.Sink
	master []byte
	number uint64
}

func newHarness(inProcess bool, size int) *harness {
	var device tun.Device = &sink{}
	if inProcess {
		device = &inProcessSink{}
	}
	h := &harness{
		Ingress: New(Config{Device: device, Local: []netip.Addr{own4, own6}}),
		in:      &plain{cert: &identity.Certificate{IPv4: peer4, IPv6: peer6}, consumed: make(chan struct{})},
	}
	h.s = h.Accept(h.in)
	var packets [][]byte
	for n := range 25 {
		packets = append(packets, udp(peer6, own6, n, size))
	}
	m := seal(0, 0, packets...)
	h.master = append(h.master, m.Bytes()...)
	m.Release()
	return h
}

func (h *harness) round(t testing.TB, swap uint64) {
	h.in.left = openBatch * len(h.master)
	for range openBatch {
		m := buffer.Get(len(h.master))
		m.Append(h.master)
		binary.BigEndian.PutUint64(m.Bytes(), h.number^swap)
		h.number++
		if !h.s.Push(m) {
			t.Fatal("refused")
		}
	}
	<-h.in.consumed
}

func TestHotPathAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops at random")
	}
	for _, inProcess := range []bool{true, false} {
		for _, swap := range []uint64{0, 1} {
			t.Run(fmt.Sprintf("inProcess=%v,swapped=%d", inProcess, swap), func(t *testing.T) {
				h := newHarness(inProcess, 1400)
				defer h.Close()
				for range 200 {
					h.round(t, swap)
				}
				// 400 packets a round: the collector empties the pools now and then.
				if n := testing.AllocsPerRun(200, func() { h.round(t, swap) }); n > 4 {
					t.Errorf("%v allocations for %d packets", n, openBatch*25)
				}
			})
		}
	}
}

func BenchmarkIngress(b *testing.B) {
	for _, inProcess := range []bool{true, false} {
		for _, size := range []int{100, 1400} {
			b.Run(fmt.Sprintf("inProcess=%v,size=%d", inProcess, size), func(b *testing.B) {
				h := newHarness(inProcess, size)
				defer h.Close()
				b.ReportAllocs()
				b.SetBytes(int64(openBatch * 25 * size))
				for b.Loop() {
					h.round(b, 0)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(openBatch*25), "ns/packet")
			})
		}
	}
}
