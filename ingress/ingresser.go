package ingress

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/packet"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/stream"
)

// openBatch is how many sealed messages are taken from the queue at once.
const openBatch = 16

// item is what waits in the queue of a stream: a sealed message, or a word of the stream's.
type item struct {
	m      *buffer.Buf // nil for a word
	final  bool        // number is that of Final, else number and floor are those of Pass
	number uint64
	floor  uint64
}

func (i item) weight() int {
	if i.m == nil {
		return 1
	}
	return i.m.Len()
}

// message is an opened message.
type message struct {
	buf  *buffer.Buf
	size int // as it was sealed
	data stream.Data
}

// ingresser delivers one inbound stream. It is the stream's Sink, whose methods may be called
// from any goroutine; everything below the queue belongs to run.
type ingresser struct {
	i      *Ingress
	in     stream.Inbound
	id     wire.StreamID
	peer   identity.ID
	queue  *queue.Queue[item]
	inside atomic.Int64 // bytes of messages from Push to release

	gate     <-chan struct{} // closed when the stream before this one is through; nil: no need to wait
	gateEnds time.Time       // when it is not waited for any longer
	over     chan struct{}   // closed when this stream is through
	overOnce sync.Once

	items [openBatch]item
	seq   *Resequencer[*message]
	free  []*message
	final uint64 // messages have numbers below it
	ends  bool   // final is known
	skips uint64 // of seq, as counted

	cert  *identity.Certificate // whose addresses these are
	addrs []netip.Addr

	out      [][]byte   // packets to write, windows of pending
	pending  []*message // unpacked, not written
	timer    *time.Timer
	deadline time.Time // when timer fires; zero if that means nothing
}

func newIngresser(i *Ingress, in stream.Inbound) *ingresser {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &ingresser{
		i: i, in: in, id: in.ID(), peer: in.Peer().ID,
		queue: queue.New(i.cfg.Queues, queue.Config{
			Name: "ingress.stream", Capacity: i.cfg.WindowBytes, Unit: "bytes", Policy: queue.Drop,
		}, item.weight),
		over:  make(chan struct{}),
		seq:   NewResequencer[*message](i.cfg.Hold),
		timer: timer,
	}
}

// follow makes s wait for the stream that it takes over from.
func (s *ingresser) follow(old *ingresser) {
	s.gate = old.over
	s.gateEnds = time.Now().Add(s.i.cfg.Hold.Max)
}

// Push implements stream.Sink.
func (s *ingresser) Push(m *buffer.Buf) bool {
	size := int64(m.Len())
	if s.inside.Add(size)-size >= int64(s.i.cfg.WindowBytes) || !s.queue.TryPush(item{m: m}) {
		s.inside.Add(-size)
		return false
	}
	return true
}

// Pass implements stream.Sink. A word that finds the queue full is lost: the number is then waited
// for in vain, as for any that was lost on its way.
func (s *ingresser) Pass(number, floor uint64) {
	s.queue.TryPush(item{number: number, floor: floor})
}

// Final implements stream.Sink.
func (s *ingresser) Final(last uint64) { s.queue.Force(item{final: true, number: last}) }

// Close implements stream.Sink.
func (s *ingresser) Close() { s.queue.Close() }

// run delivers until the Sink is closed.
func (s *ingresser) run() {
	defer s.end()
	for {
		select {
		case <-s.queue.Done():
			return
		default:
		}
		n := s.queue.TryPop(s.items[:])
		now := time.Now()
		for i := range s.items[:n] {
			s.take(now, &s.items[i])
			s.items[i] = item{}
		}
		s.deliver(now)
		if n > 0 {
			continue
		}
		select {
		case <-s.queue.Ready():
		case <-s.queue.Done():
		case <-s.timer.C:
			s.deadline = time.Time{}
		case <-s.gate:
			s.gate = nil
		}
	}
}

// take opens what came from the queue and puts it in its place.
func (s *ingresser) take(now time.Time, it *item) {
	switch {
	case it.m != nil:
		s.open(now, it.m)
	case it.final:
		s.final, s.ends = it.number, true
	default:
		if s.seq.Pass(now, it.number, it.floor) {
			s.in.Missing()
		}
	}
}

func (s *ingresser) open(now time.Time, m *buffer.Buf) {
	g := s.message()
	g.buf, g.size = m, m.Len()
	var err error
	if g.data, err = s.in.Open(m); err != nil { // counted by the stream; the window never saw it
		s.release(g)
		return
	}
	o, missing := s.seq.Add(now, g.data.Number, g.data.Floor, g)
	if missing {
		s.in.Missing()
	}
	switch o {
	case Late:
		s.i.count.late.Inc()
		s.unpack(g)
		return
	case Duplicate:
		s.i.count.duplicates.Inc()
	case Beyond:
		s.i.count.ahead.Inc()
	default:
		return
	}
	s.in.Consumed(g.size)
	s.release(g)
}

// deliver unpacks and writes what is in order, and sets the timer for what is not.
func (s *ingresser) deliver(now time.Time) {
	if s.gated(now) {
		s.wakeAt(s.gateEnds, now)
		return
	}
	for g, ok := s.seq.Next(now); ok; g, ok = s.seq.Next(now) {
		s.unpack(g)
		if len(s.pending) == openBatch {
			s.flush()
		}
	}
	s.flush()
	if n := s.seq.Skipped(); n > s.skips {
		s.i.count.skipped.Add(n - s.skips)
		s.skips = n
	}
	if s.ends && s.seq.Position() >= s.final {
		s.through()
	}
	if at, ok := s.seq.Deadline(now); ok {
		s.wakeAt(at, now)
	}
}

// gated reports whether the stream before this one is to be waited for.
func (s *ingresser) gated(now time.Time) bool {
	if s.gate == nil {
		return false
	}
	select {
	case <-s.gate:
		s.gate = nil
	default:
		if now.Before(s.gateEnds) {
			return true
		}
		s.gate = nil
	}
	return false
}

// wakeAt makes the timer fire at at or before; firing early does no harm.
func (s *ingresser) wakeAt(at, now time.Time) {
	if s.deadline.IsZero() || at.Before(s.deadline) {
		s.deadline = at
		s.timer.Reset(at.Sub(now))
	}
}

// unpack takes the packets of a message that may pass. They are written by flush.
func (s *ingresser) unpack(g *message) {
	body := &g.data.Body
	s.i.count.in.Add(uint64(body.Count()))
	s.pending = append(s.pending, g)
	if c := s.in.Peer(); c != s.cert {
		s.cert, s.addrs = c, c.Addrs()
	}
	for i := range body.Count() {
		p := body.Packet(i)
		if !s.admit(p) {
			continue
		}
		s.out = append(s.out, p)
		if len(s.out) == s.i.out.batch {
			s.write()
		}
	}
}

// admit reports whether an inner packet is from the peer and for us; if not, it is counted.
func (s *ingresser) admit(p []byte) bool {
	var h packet.Header
	switch {
	case h.Parse(p) != nil:
		s.i.count.malformed.Inc()
	case !slices.Contains(s.addrs, h.Src):
		s.i.count.source.Inc()
	case !slices.Contains(s.i.cfg.Local, h.Dst):
		s.i.count.dest.Inc()
	default:
		return true
	}
	return false
}

// write writes what was unpacked.
func (s *ingresser) write() {
	s.i.out.write(s.out)
	clear(s.out)
	s.out = s.out[:0]
}

// flush writes the rest, and gives back the messages, whose packets have all been written.
func (s *ingresser) flush() {
	s.write()
	if len(s.pending) == 0 {
		return
	}
	size := 0
	for i, g := range s.pending {
		size += g.size
		s.release(g)
		s.pending[i] = nil
	}
	s.pending = s.pending[:0]
	s.in.Consumed(size)
}

// message returns one from the list of those that have been used.
func (s *ingresser) message() *message {
	if n := len(s.free); n > 0 {
		g := s.free[n-1]
		s.free = s.free[:n-1]
		return g
	}
	return new(message)
}

// release ends a message.
func (s *ingresser) release(g *message) {
	s.inside.Add(-int64(g.size))
	g.buf.Release()
	*g = message{}
	if len(s.free) < openBatch {
		s.free = append(s.free, g)
	}
}

// through says that everything of the stream has been delivered, for the one that follows.
func (s *ingresser) through() { s.overOnce.Do(func() { close(s.over) }) }

// end drops what is left and forgets the stream.
func (s *ingresser) end() {
	s.queue.Close()
	for n := s.queue.TryPop(s.items[:]); n > 0; n = s.queue.TryPop(s.items[:]) {
		for _, it := range s.items[:n] {
			if it.m != nil {
				s.i.count.closed.Inc()
				it.m.Release()
			}
		}
	}
	for g, ok := s.seq.Drain(); ok; g, ok = s.seq.Drain() {
		s.i.count.closed.Inc()
		s.release(g)
	}
	s.timer.Stop()
	s.i.remove(s)
	s.through()
}
