package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/tuntest"
	"github.com/veil-net/anchor/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	own4  = netip.MustParseAddr("10.0.0.1")
	own6  = netip.MustParseAddr("fd00::1")
	bob4  = netip.MustParseAddr("10.0.0.2")
	bob6  = netip.MustParseAddr("fd00::2")
	carol = netip.MustParseAddr("10.0.0.3")
)

// udp is a packet to dst whose payload is n, of size bytes in all.
func udp(dst netip.Addr, n, size int) []byte {
	src := own4
	if dst.Is6() {
		src = own6
	}
	payload := fmt.Appendf(nil, "%08d", n)
	p := tuntest.UDPPacket(netip.AddrPortFrom(src, 1), netip.AddrPortFrom(dst, 2), payload)
	if size <= len(p) {
		return p
	}
	payload = append(payload, make([]byte, size-len(p))...)
	return tuntest.UDPPacket(netip.AddrPortFrom(src, 1), netip.AddrPortFrom(dst, 2), payload)
}

// idOf is the anchor behind an address, as the fake directory has it.
func idOf(a netip.Addr) identity.ID {
	b := a.As16()
	return identity.ID{b[15]}
}

// directory is a Resolver. Without a hook it knows every address at once.
type directory struct {
	resolve func(ctx context.Context, a netip.Addr) (identity.ID, error)
	known   func(a netip.Addr) (identity.ID, bool)
}

func (d *directory) Known(a netip.Addr) (identity.ID, bool) {
	switch {
	case d.known != nil:
		return d.known(a)
	case d.resolve != nil:
		return identity.ID{}, false
	}
	return idOf(a), true
}

func (d *directory) Resolve(ctx context.Context, a netip.Addr) (identity.ID, error) {
	if d.resolve == nil {
		return idOf(a), nil
	}
	return d.resolve(ctx, a)
}

// network is a Senders whose senders keep what they get.
type network struct {
	// send, if not nil, runs in every Send; an error ends the Send.
	send func(ctx context.Context, to identity.ID) error

	mu      sync.Mutex
	batches []batch
	opened  int // Senders given away
	closed  int
	count   int // packets sent
	more    chan struct{}
}

// batch is what one Send brought.
type batch struct {
	to      identity.ID
	packets [][]byte
	born    time.Time
}

func (n *network) Sender(peer identity.ID) stream.Sender {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opened++
	return &sender{n, peer}
}

type sender struct {
	n    *network
	peer identity.ID
}

func (s *sender) Send(ctx context.Context, b *stream.Batch) error {
	defer b.Release()
	if s.n.send != nil {
		if err := s.n.send(ctx, s.peer); err != nil {
			return err
		}
	}
	got := batch{to: s.peer, born: b.Born()}
	for i := range b.Count() {
		got.packets = append(got.packets, bytes.Clone(b.Packet(i)))
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.n.batches = append(s.n.batches, got)
	s.n.count += b.Count()
	if s.n.more != nil {
		close(s.n.more)
		s.n.more = nil
	}
	return nil
}

func (s *sender) Close() {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.n.closed++
}

// wait waits until count packets have been sent in all, and returns the batches.
func (n *network) wait(t *testing.T, count int) []batch {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		n.mu.Lock()
		if n.count >= count {
			defer n.mu.Unlock()
			return append([]batch(nil), n.batches...)
		}
		if n.more == nil {
			n.more = make(chan struct{})
		}
		more := n.more
		n.mu.Unlock()
		select {
		case <-more:
		case <-limit:
			t.Fatalf("%d packets were sent, want %d", n.count, count)
		}
	}
}

// uses returns how many Senders are open.
func (n *network) uses() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.opened - n.closed
}

// stall is a send hook that waits for its context, or until it is closed.
func stall(open <-chan struct{}) func(context.Context, identity.ID) error {
	return func(ctx context.Context, _ identity.ID) error {
		select {
		case <-open:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stream: send: %w", context.Cause(ctx))
		}
	}
}

// fixture is an Egress with fakes around it.
type fixture struct {
	*Egress
	t      *testing.T
	dev    *tuntest.Device
	net    *network
	dir    *directory
	queues *queue.Registry
	stats  *stats.Set
}

// newFixture returns an Egress on a device like a kernel's, or on one like an in-process
// stack's. The test starts it.
func newFixture(t *testing.T, inProcess bool, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, net: &network{}, dir: &directory{}, queues: &queue.Registry{}, stats: &stats.Set{}}
	var source tun.Device
	if inProcess {
		dev := &tuntest.BufDevice{}
		f.dev, source = &dev.Device, dev
	} else {
		f.dev = &tuntest.Device{Batch: 128, Headroom: 10}
		source = f.dev
	}
	cfg := Config{
		Source: source, Local: []netip.Addr{own4, own6}, Resolver: f.dir, Senders: f.net,
		Queues: f.queues, Stats: f.stats,
	}
	if change != nil {
		change(&cfg)
	}
	f.Egress = New(cfg)
	return f
}

// stop closes source and Egress, and checks that nothing is left.
func (f *fixture) stop() {
	f.t.Helper()
	if err := f.dev.Close(); err != nil {
		f.t.Log(err)
	}
	f.Close()
	if n := f.net.uses(); n != 0 {
		f.t.Errorf("%d senders are still open", n)
	}
	for _, q := range f.queues.Snapshot() {
		if q.Queues != 0 || q.Len != 0 {
			f.t.Errorf("queues left: %+v", q)
		}
	}
}

func (f *fixture) snapshot() stats.Snapshot { return f.stats.Stage("egress").Snapshot() }

// wantDrops checks the drop counters: those named, and 0 for the others.
func (f *fixture) wantDrops(want map[string]uint64) {
	f.t.Helper()
	for reason, n := range f.snapshot().Drops {
		if n != want[reason] {
			f.t.Errorf("drops %q: %d, want %d", reason, n, want[reason])
		}
	}
}

// packetsOf returns the packets of batches to one anchor, in order.
func packetsOf(batches []batch, to identity.ID) (out [][]byte) {
	for _, b := range batches {
		if b.to == to {
			out = append(out, b.packets...)
		}
	}
	return out
}

func checkOrder(t *testing.T, packets [][]byte, dst netip.Addr, from, to, size int) {
	t.Helper()
	if len(packets) != to-from {
		t.Errorf("%d packets to %s, want %d", len(packets), dst, to-from)
		return
	}
	for i, p := range packets {
		if !bytes.Equal(p, udp(dst, from+i, size)) {
			t.Errorf("packet %d to %s is another one", from+i, dst)
			return
		}
	}
}

var errTest = errors.New("a fault of the test's")
