package ingress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/tuntest"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	own4   = netip.MustParseAddr("10.0.0.1")
	own6   = netip.MustParseAddr("fd00::1")
	peer4  = netip.MustParseAddr("10.0.0.2")
	peer6  = netip.MustParseAddr("fd00::2")
	other4 = netip.MustParseAddr("10.0.0.3")
	other6 = netip.MustParseAddr("fd00::3")
)

// udp is a packet whose payload is n, of size bytes in all.
func udp(src, dst netip.Addr, n, size int) []byte {
	payload := fmt.Appendf(nil, "%08d", n)
	head := 28
	if src.Is6() {
		head = 48
	}
	payload = append(payload, make([]byte, max(0, size-head-len(payload)))...)
	return tuntest.UDPPacket(netip.AddrPortFrom(src, 1), netip.AddrPortFrom(dst, 2), payload)
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// packet4 is a proper packet of the peer's to us.
func packet4(n int) []byte { return udp(peer4, own4, n, 0) }

// headLen is what the fake seal puts before the body: the number, and whether it opens.
const headLen = 9

// seal is a message as the fake Inbound opens it.
func seal(number, floor uint64, packets ...[]byte) *buffer.Buf {
	lengths := make([]uint16, len(packets))
	size := headLen + wire.DataHeaderSize(len(packets)) + wire.SignatureBlockSize(1, 0)
	for i, p := range packets {
		lengths[i] = uint16(len(p))
		size += len(p)
	}
	m := buffer.Get(size)
	binary.BigEndian.PutUint64(m.Extend(headLen), number)
	wire.PutDataHeader(m.Extend(wire.DataHeaderSize(len(packets))), floor, lengths)
	for _, p := range packets {
		m.Append(p)
	}
	m.Append(append([]byte{1, 0}, make([]byte, wire.SignatureSize)...))
	m.Bytes()[8] = 1
	return m
}

// broken is a message that does not open.
func broken() *buffer.Buf {
	m := buffer.Get(100)
	clear(m.Extend(100))
	return m
}

var errBroken = errors.New("a seal that does not open")

// inbound is a stream.Inbound whose messages seal and broken make.
type inbound struct {
	id, pred wire.StreamID
	onOpen   func()

	mu       sync.Mutex
	cert     *identity.Certificate
	opened   int
	consumed int
	missing  int
	more     chan struct{}
}

func newInbound(id byte) *inbound {
	return &inbound{
		id:   wire.StreamID{id},
		cert: &identity.Certificate{ID: identity.ID{2}, IPv4: peer4, IPv6: peer6},
	}
}

func (in *inbound) ID() wire.StreamID          { return in.id }
func (in *inbound) Predecessor() wire.StreamID { return in.pred }

func (in *inbound) Peer() *identity.Certificate {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.cert
}

func (in *inbound) Open(m *buffer.Buf) (d stream.Data, err error) {
	if in.onOpen != nil {
		in.onOpen()
	}
	b := m.Bytes()
	if b[8] == 0 {
		return d, errBroken
	}
	in.mu.Lock()
	in.opened++
	in.mu.Unlock()
	d.Number = binary.BigEndian.Uint64(b)
	err = d.Body.Parse(b[headLen:])
	d.Floor = d.Body.Floor
	return d, err
}

func (in *inbound) Consumed(size int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.consumed += size
	if in.more != nil {
		close(in.more)
		in.more = nil
	}
}

func (in *inbound) Missing() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.missing++
}

// count returns what was called how often.
func (in *inbound) count() (opened, consumed, missing int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.opened, in.consumed, in.missing
}

// waitConsumed waits until size bytes have been consumed in all.
func (in *inbound) waitConsumed(size int) {
	for {
		in.mu.Lock()
		if in.consumed >= size {
			in.mu.Unlock()
			return
		}
		if in.more == nil {
			in.more = make(chan struct{})
		}
		more := in.more
		in.mu.Unlock()
		<-more
	}
}

// fixture is an Ingress on a fake device.
type fixture struct {
	*Ingress
	t      *testing.T
	dev    *tuntest.Device
	queues *queue.Registry
	stats  *stats.Set
}

// newFixture returns an Ingress on a device like a kernel's, or on one like an in-process
// stack's.
func newFixture(t *testing.T, inProcess bool, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, queues: &queue.Registry{}, stats: &stats.Set{}}
	var device tun.Device
	if inProcess {
		dev := &tuntest.BufDevice{}
		f.dev, device = &dev.Device, dev
		dev.Batch = 64
	} else {
		f.dev = &tuntest.Device{Batch: 128, Headroom: 10, Clobber: true}
		device = f.dev
	}
	cfg := Config{Device: device, Local: []netip.Addr{own4, own6}, Queues: f.queues, Stats: f.stats}
	if change != nil {
		change(&cfg)
	}
	f.Ingress = New(cfg)
	return f
}

func (f *fixture) snapshot() stats.Snapshot { return f.stats.Stage("ingress").Snapshot() }

// wantDrops checks the drop counters: those named, and 0 for the others.
func (f *fixture) wantDrops(want map[string]uint64) {
	f.t.Helper()
	for reason, n := range f.snapshot().Drops {
		if n != want[reason] {
			f.t.Errorf("drops %q: %d, want %d", reason, n, want[reason])
		}
	}
}

// stop closes everything and checks that nothing is left.
func (f *fixture) stop() {
	f.t.Helper()
	f.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.streams) != 0 {
		f.t.Errorf("%d streams are left", len(f.streams))
	}
	for _, q := range f.queues.Snapshot() {
		if q.Queues != 0 || q.Len != 0 {
			f.t.Errorf("queues left: %+v", q)
		}
	}
}

func mustPush(t *testing.T, s stream.Sink, ms ...*buffer.Buf) {
	t.Helper()
	for _, m := range ms {
		if !s.Push(m) {
			t.Fatal("Push refuses a message")
		}
	}
}

// numbersOf reads what packet4 and udp wrote into packets.
func numbersOf(packets [][]byte) (out []int) {
	for _, p := range packets {
		at := 28
		if p[0]>>4 == 6 {
			at = 48
		}
		n := 0
		if _, err := fmt.Sscanf(string(p[at:at+8]), "%d", &n); err != nil {
			n = -1
		}
		out = append(out, n)
	}
	return out
}

func wantPackets(t *testing.T, got [][]byte, want ...[]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d packets were written, want %d", len(got), len(want))
		return
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("packet %d of %d is not what was sent", i, len(got))
			return
		}
	}
}

const ms = time.Millisecond
