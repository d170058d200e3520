package tether

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/wire"
)

const (
	// linkQueue is the capacity in bytes of the queue before a link's writer: enough to keep it
	// busy while the sender wakes, and no more, because what waits here cannot take another way.
	linkQueue = 128 << 10
	// ackEvery and ackDelay say when messages are acknowledged: after so many, or so long after
	// the first.
	ackEvery = 16
	ackDelay = 10 * time.Millisecond
	// earlyMessages is how many messages may come ahead of the hello, which an unordered channel
	// does not keep first.
	earlyMessages = 64
	// checkEvery is how often the peer's certificate is looked at again.
	checkEvery = time.Second
)

// Why a tether ends. Each is behind ErrDown.
var (
	errSilent   = errors.New("nothing heard")
	errIdle     = errors.New("idle")
	errReplaced = errors.New("replaced by a newer one")
	errEnded    = errors.New("session ended")
	errHello    = errors.New("hello is not from the expected session")
)

// tether is a Neighbor with one link. Three goroutines serve it:
//
//	Send ──> queue "tether.link" ──> writer ──> link      (heartbeats first)
//	link ──> reader ─┬─ message ──> Receiver.Receive
//	                 └─ frame ────> hello, heartbeat
//	keeper: heartbeats, death by silence, idleness, the peer's certificate
//
// It is up once the peer's hello came and the Receiver has been told; the reader waits for
// that at the gate.
type tether struct {
	id      identity.ID
	cert    *identity.Certificate
	session identity.Nonce // the peer's
	number  uint64         // counter of the link id
	link    link
	env     *environment

	queue *queue.Queue[*buffer.Buf]
	beat  chan struct{} // a heartbeat is due
	wake  chan struct{} // the keeper should look
	gate  chan struct{} // closed once the Receiver has been told
	// changed is called, from any goroutine, after hello and at the end.
	changed func()

	once     sync.Once
	err      error         // why it ended; read after done is closed
	done     chan struct{} // closed at the end
	workers  sync.WaitGroup
	finished chan struct{} // closed when reader and writer have ended

	helloed   atomic.Bool
	busy      atomic.Bool
	unacked   atomic.Int32
	received  atomic.Uint64 // messages
	sent      atomic.Uint64 // messages
	gotBytes  atomic.Uint64
	sentBytes atomic.Uint64
	traffic   atomic.Int64 // when the keeper last saw messages go, in ns after since; 0 if never

	mu     sync.Mutex
	pulse  pulse
	frames uint32 // numbers given to frames
	since  time.Time
	acked  uint64 // messages that the peer has received
}

// environment is what a Manager gives all its tethers.
type environment struct {
	own      identity.Nonce // our session
	log      *slog.Logger
	receiver Receiver
	count    *counters
	queues   *queue.Registry
	closing  *sync.WaitGroup // of links being closed
	// idle is how long without messages ends a tether, if mayIdle allows.
	idle    time.Duration
	mayIdle func() bool
	// check reports why the peer may not be talked to any more.
	check func(*identity.Certificate) error
	// list is the number of the revocation list held.
	list func() uint64
}

// newTether starts a tether on an open link to a session of an anchor.
func newTether(env *environment, l link, number uint64, cert *identity.Certificate, session identity.Nonce, changed func()) *tether {
	t := &tether{
		id: cert.ID, cert: cert, session: session, number: number,
		link: l, env: env, changed: changed,
		queue: queue.New(env.queues, queue.Config{Name: "tether.link", Capacity: linkQueue, Unit: "bytes"},
			func(m *buffer.Buf) int { return m.Len() }),
		beat: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		gate: make(chan struct{}), done: make(chan struct{}), finished: make(chan struct{}),
		since: time.Now(),
	}
	t.pulse.start(t.since)
	t.workers.Add(2)
	go t.read()
	go t.write()
	go t.keep()
	return t
}

// admit opens the gate: the Receiver knows the tether now.
func (t *tether) admit() { close(t.gate) }

// end ends the tether; the first reason counts. It does not wait.
func (t *tether) end(reason error) {
	t.once.Do(func() {
		t.err = reason
		t.queue.Close() // first, so that nothing is taken once done is closed
		close(t.done)
	})
}

// alive reports whether the tether has not ended.
func (t *tether) alive() bool {
	select {
	case <-t.done:
		return false
	default:
		return true
	}
}

// lastMessage is when the keeper last saw messages go, within one of its intervals; the zero
// time if none has.
func (t *tether) lastMessage() time.Time {
	if d := t.traffic.Load(); d != 0 {
		return t.since.Add(time.Duration(d))
	}
	return time.Time{}
}

// ID implements Neighbor.
func (t *tether) ID() identity.ID { return t.id }

// Session implements Neighbor.
func (t *tether) Session() identity.Nonce { return t.session }

// Done implements Neighbor.
func (t *tether) Done() <-chan struct{} { return t.done }

// WaitRoom implements Neighbor.
func (t *tether) WaitRoom(ctx context.Context) error {
	if err := t.queue.WaitRoom(ctx); err != nil {
		return t.opError("wait for room", err)
	}
	return nil
}

// Send implements Neighbor.
func (t *tether) Send(ctx context.Context, m *buffer.Buf) error {
	if m.Len() > wire.MaxMessage {
		m.Release()
		return t.opError("send", wire.ErrTooLong)
	}
	if err := t.queue.Push(ctx, m); err != nil {
		m.Release()
		return t.opError("send", err)
	}
	if !t.busy.Load() {
		signal(t.wake)
	}
	return nil
}

func (t *tether) opError(op string, err error) error {
	if errors.Is(err, net.ErrClosed) {
		<-t.done
		err = fmt.Errorf("%w: %w", ErrDown, t.err)
	}
	return fmt.Errorf("tether: %s: %s: %w", op, t.id.Short(), err)
}

// Info implements Neighbor.
func (t *tether) Info() Info {
	now := time.Now()
	t.mu.Lock()
	i := Info{
		Since: t.since, Heard: t.pulse.heardAt,
		RTT: t.pulse.srtt, MinRTT: t.pulse.minRTT(now),
		Sent: t.sentBytes.Load(), Got: t.gotBytes.Load(),
	}
	t.mu.Unlock()
	if t.alive() {
		i.Links = 1
		i.Path, i.Local, i.Remote = t.link.path()
	}
	return i
}

// write is the link's one writer. The hello goes first; then heartbeats before messages.
func (t *tether) write() {
	defer t.workers.Done()
	scratch := make([]byte, 0, wire.MaxHeartbeatSize)
	frame := t.hello(scratch)
	var one [1]*buffer.Buf
	for {
		if frame != nil {
			if err := t.link.write(frame); err != nil {
				t.end(fmt.Errorf("write: %w", err))
				return
			}
		}
		frame = nil
		select {
		case <-t.beat:
			frame = t.heartbeat(scratch)
			continue
		case <-t.done:
			return
		default:
		}
		if t.queue.TryPop(one[:]) == 1 {
			if !t.writeMessage(one[0]) {
				return
			}
			continue
		}
		select {
		case <-t.beat:
			frame = t.heartbeat(scratch)
		case <-t.queue.Ready():
		case <-t.done:
			return
		}
	}
}

func (t *tether) writeMessage(m *buffer.Buf) bool {
	n := m.Len()
	err := t.link.write(m.Bytes())
	m.Release()
	if err != nil {
		t.env.count.unsent.Inc()
		t.end(fmt.Errorf("write: %w", err))
		return false
	}
	t.sent.Add(1)
	t.sentBytes.Add(uint64(n))
	t.env.count.Out.Inc()
	return true
}

// read is the link's one reader.
func (t *tether) read() {
	defer t.workers.Done()
	big := buffer.Get(buffer.MaxSize)
	defer func() { big.Release() }()
	var held []*buffer.Buf // messages ahead of the hello
	defer func() { t.discard(held) }()
	for {
		n, err := t.next(big)
		if err != nil {
			t.end(fmt.Errorf("read: %w", err))
			return
		}
		if p := big.Extend(n); wire.IsFrame(p) {
			ok := t.frame(p)
			big.Truncate(0)
			if !ok {
				return
			}
			if t.helloed.Load() {
				for _, m := range held {
					t.message(m)
				}
				held = nil
			}
			continue
		}
		var m *buffer.Buf
		m, big = detach(big)
		switch {
		case t.helloed.Load():
			t.message(m)
		case len(held) < earlyMessages:
			held = append(held, m)
		default:
			t.env.count.early.Inc()
			m.Release()
		}
	}
}

// next reads what comes next into the block of big and returns its length. What can be neither
// message nor frame is dropped and counted.
func (t *tether) next(big *buffer.Buf) (int, error) {
	for {
		n, err := t.link.read(big.Extend(wire.MaxMessage))
		big.Truncate(0)
		switch {
		case errors.Is(err, io.ErrShortBuffer):
			if err := t.skipOversized(); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		case n < 2:
			t.env.count.malformed.Inc()
		default:
			return n, nil
		}
	}
}

// detach takes the message out of the read buffer and returns the next read buffer: small ones
// are copied, so that they do not hold 64 KiB each while they wait, large ones take the buffer.
func detach(big *buffer.Buf) (m, next *buffer.Buf) {
	if big.Len() > copyBelow {
		return big, buffer.Get(buffer.MaxSize)
	}
	m = buffer.Get(big.Len())
	m.Append(big.Bytes())
	big.Truncate(0)
	return m, big
}

// copyBelow is the size from which on copying costs more than a pool's block is worth.
const copyBelow = 20 << 10

func (t *tether) discard(held []*buffer.Buf) {
	for _, m := range held {
		t.env.count.early.Inc()
		m.Release()
	}
}

// message passes a message on, and sees to its acknowledgement.
func (t *tether) message(m *buffer.Buf) {
	t.env.count.In.Inc()
	t.received.Add(1)
	t.gotBytes.Add(uint64(m.Len()))
	switch t.unacked.Add(1) {
	case 1:
		signal(t.wake)
	case ackEvery:
		signal(t.beat)
	}
	t.env.receiver.Receive(t, m)
}

// maxOversized is the largest message that SCTP can have reassembled.
const maxOversized = sctpBuffer + wire.MaxMessage

// skipOversized takes a message above the limit out of the link and drops it.
func (t *tether) skipOversized() error {
	t.env.count.oversized.Inc()
	for size := 4 * wire.MaxMessage; ; size *= 4 {
		_, err := t.link.read(make([]byte, min(size, maxOversized)))
		if !errors.Is(err, io.ErrShortBuffer) || size >= maxOversized {
			return err
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
