package tether

import (
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
)

// workbench is one tether on a pipe, with the test at the other end of the pipe.
type workbench struct {
	t     *testing.T
	ether *ether
	*tether
	far   *pipeLink
	sink  *sink
	stats *stats.Set
	end   error // what env.check returns
	away  bool  // whether the Master is away
	wg    sync.WaitGroup
	mu    sync.Mutex
}

var (
	nearSession = identity.Nonce{1}
	farSession  = identity.Nonce{2}
)

// newWorkbench must be called in a synctest bubble.
func newWorkbench(t *testing.T, delay time.Duration) *workbench {
	t.Helper()
	w := &workbench{t: t, ether: newEther(delay), sink: newSink(), stats: new(stats.Set)}
	nearLink, _ := w.ether.newLink(func() {})
	farLink, _ := w.ether.newLink(func() {})
	near, far := nearLink.(*pipeLink), farLink.(*pipeLink)
	near.up(far)
	far.up(near)
	w.far = far
	env := &environment{
		own: nearSession, log: slog.New(slog.DiscardHandler),
		receiver: w.sink, count: newCounters(w.stats), closing: &w.wg,
		idle: time.Minute,
		mayIdle: func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return !w.away
		},
		check: func(*identity.Certificate) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.end
		},
		list: func() uint64 { return 77 },
	}
	w.tether = newTether(env, near, 5, &identity.Certificate{ID: identity.ID{9}}, farSession, func() {})
	return w
}

// stop ends everything.
func (w *workbench) stop() {
	w.tether.end(errEnded)
	<-w.finished
	w.wg.Wait()
	w.far.close()
}

// up takes the tether through hello and Up.
func (w *workbench) up() {
	w.t.Helper()
	w.say((&wire.Hello{Session: farSession, Peer: nearSession, Window: wire.MinWindow}).Append(nil, 1))
	synctest.Wait()
	time.Sleep(2 * w.ether.delay)
	synctest.Wait()
	if !w.helloed.Load() {
		w.t.Fatal("the hello is not taken")
	}
	w.sink.Up(w.tether)
	w.admit()
}

// say has the far end write.
func (w *workbench) say(p []byte) {
	w.t.Helper()
	if err := w.far.write(p); err != nil {
		w.t.Fatal(err)
	}
}

// farBeat has the far end send a heartbeat.
func (w *workbench) farBeat(h wire.Heartbeat) { w.say(h.Append(nil, 1)) }

// hear takes all that the far end has got.
func (w *workbench) hear() (all [][]byte) {
	w.far.mu.Lock()
	defer w.far.mu.Unlock()
	all, w.far.in = w.far.in, nil
	return all
}

// beats picks heartbeats out of what was heard.
func (w *workbench) beats(all [][]byte) (hs []wire.Heartbeat) {
	w.t.Helper()
	for _, p := range all {
		head, body, err := wire.ParseFrame(p)
		if err != nil || head.Kind != wire.FrameHeartbeat {
			continue
		}
		var h wire.Heartbeat
		if err := h.Parse(body); err != nil {
			w.t.Fatal(err)
		}
		hs = append(hs, h)
	}
	return hs
}

func (w *workbench) drops(r string) uint64 { return w.stats.Stage("tether").Snapshot().Drops[r] }

// bubble runs a test in virtual time.
func bubble(t *testing.T, delay time.Duration, f func(w *workbench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorkbench(t, delay)
		f(w)
		w.stop()
	})
}

func block(n int) *buffer.Buf {
	m := buffer.Get(n)
	clear(m.Extend(n))
	if n > 1 {
		m.Bytes()[0], m.Bytes()[1] = 1, 1
	}
	return m
}
