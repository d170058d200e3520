package tether

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/vnet"

	"github.com/veil-net/anchor/internal/wire"
)

// anyAddr is the filter of tests on loopback and vnet.
func anyAddr(string, netip.Addr) bool { return true }

// loopbackOnly keeps tests off the machine's other interfaces.
func loopbackOnly(_ string, a netip.Addr) bool { return a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

func testMaker(tb testing.TB, n transport.Net) linkMaker {
	tb.Helper()
	usable := loopbackOnly
	if n != nil {
		usable = anyAddr
	}
	m, err := newLinkMaker(linkOptions{loopback: true, usable: usable, net: n, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// end is one link with what its notify calls woke.
type end struct {
	link
	wake chan struct{}
}

func newEnd(tb testing.TB, m linkMaker) *end {
	tb.Helper()
	e := &end{wake: make(chan struct{}, 1)}
	l, err := m.newLink(func() {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	e.link = l
	tb.Cleanup(l.close)
	return e
}

// await waits until cond holds, looking after each notify.
func (e *end) await(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	limit := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-e.wake:
		case <-limit:
			tb.Fatalf("gave up waiting for %s", what)
		}
	}
}

// connect takes two links through signalling in one goroutine.
func connect(tb testing.TB, a, b *end) {
	tb.Helper()
	offer, err := a.offer()
	if err != nil {
		tb.Fatal(err)
	}
	answer, err := b.answer(offer)
	if err != nil {
		tb.Fatal(err)
	}
	if err := a.accept(answer); err != nil {
		tb.Fatal(err)
	}
	exchange(tb, a, b)
	exchange(tb, b, a)
	for _, e := range []*end{a, b} {
		e.await(tb, "the data channel", func() bool { return e.state() == linkOpen })
	}
}

func exchange(tb testing.TB, from, to *end) {
	tb.Helper()
	from.await(tb, "candidates", func() bool { _, all := from.candidates(); return all })
	cs, _ := from.candidates()
	for _, c := range cs {
		if err := to.add(c); err != nil {
			tb.Fatal(err)
		}
	}
}

func newLinkPair(tb testing.TB) (a, b *end) {
	m := testMaker(tb, nil)
	a, b = newEnd(tb, m), newEnd(tb, m)
	connect(tb, a, b)
	return a, b
}

func TestLinkCarriesEverySize(t *testing.T) {
	a, b := newLinkPair(t)
	buf := make([]byte, wire.MaxMessage)
	for _, dir := range [][2]*end{{a, b}, {b, a}} {
		for _, n := range []int{1, 2, 44, 1171, 1200, 8192, 37500, 65534, 65535} {
			msg := make([]byte, n)
			for i := range msg {
				msg[i] = byte(i * n)
			}
			if err := dir[0].write(msg); err != nil {
				t.Fatal(err)
			}
			got, err := dir[1].read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if string(buf[:got]) != string(msg) {
				t.Fatalf("a message of %d bytes did not arrive as it was sent", n)
			}
		}
	}
	if err := a.write(make([]byte, wire.MaxMessage+1)); err == nil {
		t.Error("a message above the limit was taken")
	}
	if kind, local, remote := a.path(); kind != PathDirect || local == "" || remote == "" {
		t.Errorf("path is %v from %q to %q", kind, local, remote)
	}
	if a.heard() == 0 {
		t.Error("the link heard nothing")
	}
}

func TestLinkPreviewHoldsInTheAnswer(t *testing.T) {
	m := testMaker(t, nil)
	a, b := newEnd(t, m), newEnd(t, m)
	preview, ok := b.describe()
	if !ok {
		t.Fatal("no description before the offer")
	}
	offer, err := a.offer()
	if err != nil {
		t.Fatal(err)
	}
	if offer.Setup != wire.SetupActpass {
		t.Errorf("offer says %v", offer.Setup)
	}
	if err := a.accept(preview); err != nil { // before b has seen the offer
		t.Fatal(err)
	}
	answer, err := b.answer(offer)
	if err != nil {
		t.Fatal(err)
	}
	if answer != preview {
		t.Errorf("answer %+v differs from what was said before: %+v", answer, preview)
	}
	exchange(t, a, b) // b's candidates are never told: checks find them
	for _, e := range []*end{a, b} {
		e.await(t, "the data channel", func() bool { return e.state() == linkOpen })
	}
}

func TestLinkRefusesAnotherCertificate(t *testing.T) {
	a, b := newEnd(t, testMaker(t, nil)), newEnd(t, testMaker(t, nil))
	offer, err := a.offer()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := b.answer(offer)
	if err != nil {
		t.Fatal(err)
	}
	answer.Fingerprint[7] ^= 1 // somebody in the middle
	if err := a.accept(answer); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b)
	a.await(t, "the failure", func() bool { return a.state() == linkDead })
	if b.state() == linkOpen {
		t.Error("the other end is open")
	}
}

// loss drops a share of the packets between two hosts, from when it is told to.
type loss struct {
	mu    sync.Mutex
	rng   *rand.Rand
	share float64
}

func (l *loss) set(share float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.share = share
}

func (l *loss) keep(vnet.Chunk) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.Float64() >= l.share
}

// newVnet makes two hosts on one virtual network.
func newVnet(tb testing.TB, delay time.Duration) (a, b transport.Net, l *loss) {
	tb.Helper()
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	r, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: "10.1.0.0/24", MinDelay: delay, QueueSize: 4096, LoggerFactory: quiet})
	if err != nil {
		tb.Fatal(err)
	}
	l = &loss{rng: rand.New(rand.NewPCG(1, 2))}
	r.AddChunkFilter(l.keep)
	nets := make([]transport.Net, 2)
	for i := range nets {
		n, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{net.IPv4(10, 1, 0, byte(i+10)).String()}})
		if err != nil {
			tb.Fatal(err)
		}
		if err := r.AddNet(n); err != nil {
			tb.Fatal(err)
		}
		nets[i] = n
	}
	if err := r.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return nets[0], nets[1], l
}

// TestLinkIsUnordered proves that a lost packet holds up its own message only, both ways, and
// that no message is lost.
func TestLinkIsUnordered(t *testing.T) {
	const messages = 300
	na, nb, loss := newVnet(t, 2*time.Millisecond)
	a, b := newEnd(t, testMaker(t, na)), newEnd(t, testMaker(t, nb))
	connect(t, a, b)
	// The offerer's channel is unordered once the answerer's acknowledgement of it has been
	// read: one message each way, as the hello is.
	buf := make([]byte, wire.MaxMessage)
	for _, dir := range [][2]*end{{a, b}, {b, a}} {
		if err := dir[0].write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := dir[1].read(buf); err != nil {
			t.Fatal(err)
		}
	}
	loss.set(0.05)
	for name, dir := range map[string][2]*end{"offerer to answerer": {a, b}, "answerer to offerer": {b, a}} {
		fault := make(chan error, 1)
		go func() {
			msg := make([]byte, 900)
			for i := range messages {
				binary.BigEndian.PutUint32(msg, uint32(i))
				if err := dir[0].write(msg); err != nil {
					fault <- err
					return
				}
			}
			fault <- nil
		}()
		late, newest := 0, -1
		seen := make([]bool, messages)
		for range messages {
			n, err := dir[1].read(buf)
			if err != nil {
				t.Fatal(err)
			}
			i := int(binary.BigEndian.Uint32(buf[:n]))
			if seen[i] {
				t.Fatalf("message %d came twice", i)
			}
			seen[i] = true
			if i < newest {
				late++
			}
			newest = max(newest, i)
		}
		if err := <-fault; err != nil {
			t.Fatal(err)
		}
		if late == 0 {
			t.Errorf("%s: %d messages through 5 %% loss came in order: the channel is ordered", name, messages)
		}
		t.Logf("%s: %d of %d messages came after a later one", name, late, messages)
	}
	loss.set(0)
}

// TestLinkCloseWakes closes a link whose writer waits for a path that is gone.
func TestLinkCloseWakes(t *testing.T) {
	na, nb, loss := newVnet(t, time.Millisecond)
	a, b := newEnd(t, testMaker(t, na)), newEnd(t, testMaker(t, nb))
	connect(t, a, b)
	loss.set(1)
	var done sync.WaitGroup
	var wrote, read error
	done.Go(func() {
		msg := make([]byte, 60000)
		for range 1000 {
			if wrote = a.write(msg); wrote != nil {
				return
			}
		}
	})
	done.Go(func() { _, read = a.read(make([]byte, wire.MaxMessage)) })
	time.Sleep(50 * time.Millisecond) // let it fill the window; if it has not, it is in write all the same
	start := time.Now()
	a.close()
	done.Wait()
	if d := time.Since(start); d > time.Second {
		t.Errorf("close and the calls it wakes took %v", d)
	}
	if wrote == nil || read == nil {
		t.Errorf("write returned %v, read %v", wrote, read)
	}
	if err := a.write([]byte("late")); err == nil {
		t.Error("a closed link takes messages")
	}
	a.close()
	loss.set(0)
}

func TestLinkCloseInAnyState(t *testing.T) {
	steps := []func(a, b *end) error{
		func(a, b *end) error { return nil },
		func(a, b *end) error { _, err := a.offer(); return err },
		func(a, b *end) error {
			o, err := a.offer()
			if err == nil {
				_, err = b.answer(o)
			}
			return err
		},
		func(a, b *end) error { // connecting, with no candidate known
			if _, err := a.offer(); err != nil {
				return err
			}
			d, _ := b.describe()
			return a.accept(d)
		},
	}
	for i, step := range steps {
		m := testMaker(t, nil)
		a, b := newEnd(t, m), newEnd(t, m)
		if err := step(a, b); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		start := time.Now()
		a.close()
		b.close()
		if d := time.Since(start); d > time.Second {
			t.Errorf("step %d: close took %v", i, d)
		}
		if _, err := a.offer(); err == nil {
			t.Errorf("step %d: a closed link makes an offer", i)
		}
	}
	// Ever later into ICE, DTLS and SCTP.
	for i := range 12 {
		m := testMaker(t, nil)
		a, b := newEnd(t, m), newEnd(t, m)
		o, err := a.offer()
		if err != nil {
			t.Fatal(err)
		}
		d, err := b.answer(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.accept(d); err != nil {
			t.Fatal(err)
		}
		exchange(t, a, b)
		time.Sleep(time.Duration(i) * 300 * time.Microsecond)
		start := time.Now()
		a.close()
		b.close()
		if d := time.Since(start); d > time.Second {
			t.Errorf("close %d took %v", i, d)
		}
	}
}

// TestLinkCloseWhileGathering has STUN and TURN servers that never answer.
func TestLinkCloseWhileGathering(t *testing.T) {
	m, err := newLinkMaker(linkOptions{
		loopback: true, usable: loopbackOnly, log: slog.New(slog.DiscardHandler),
		servers: []ICEServer{
			{URLs: []string{"stun:127.0.0.1:9"}},
			{URLs: []string{"turn:127.0.0.1:9?transport=udp"}, Username: "u", Credential: "c"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := newEnd(t, m)
	if _, err := e.offer(); err != nil {
		t.Fatal(err)
	}
	e.await(t, "a host candidate", func() bool { cs, _ := e.candidates(); return len(cs) > 0 })
	start := time.Now()
	e.close()
	if d := time.Since(start); d > time.Second {
		t.Errorf("close took %v", d)
	}
}

func TestLinkShortBufferKeepsTheMessage(t *testing.T) {
	a, b := newLinkPair(t)
	if err := a.write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.read(make([]byte, 4999)); !errors.Is(err, io.ErrShortBuffer) {
		t.Fatalf("read into a short buffer: %v", err)
	}
	if n, err := b.read(make([]byte, 5000)); n != 5000 || err != nil {
		t.Fatalf("the message afterwards: %d, %v", n, err)
	}
}
