package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// inWorld runs a test with two nodes in virtual time.
func inWorld(t *testing.T, f func(t *testing.T, w *world, alice, bob *testNode)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		f(t, w, w.start(w.issue("alice"), nil), w.start(w.issue("bob"), nil))
	})
}

func numbered(n int, size int) []byte {
	p := make([]byte, size)
	binary.BigEndian.PutUint32(p, uint32(n))
	return p
}

func TestSendDelivers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		s := alice.Sender(bob.id.ID())
		defer s.Close()
		if err := s.Send(t.Context(), freshBatch([]byte("one"), []byte("two"))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // past the acknowledgement
		synctest.Wait()
		got := bob.got()
		if len(got) != 2 || string(got[0]) != "one" || string(got[1]) != "two" {
			t.Fatalf("got %q", got)
		}
		o := alice.out.all()[0]
		if n := o.state.Outstanding(); n != 0 {
			t.Errorf("%d messages outstanding after the acknowledgement", n)
		}
		if o.budget != 0 {
			t.Errorf("%d bytes of the send buffer held", o.budget)
		}
		if c := bob.sinks[0].in.Peer(); c.ID != alice.id.ID() {
			t.Errorf("inbound peer is %s", c.Name)
		}
		for _, n := range []*testNode{alice, bob} {
			if d := n.stats.Stage("stream").Snapshot().Dropped(); d != 0 {
				t.Errorf("%s dropped %d", n.id.Certificate().Name, d)
			}
		}
	})
}

// The network loses, repeats and reorders; every message arrives once.
func TestLossDuplicationReordering(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		w.set(faults{drop: 0.1, dup: 0.1, delay: func() time.Duration {
			return 5*time.Millisecond + rand.N(15*time.Millisecond)
		}})
		const senders, each = 4, 100
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				s := alice.Sender(bob.id.ID())
				defer s.Close()
				for j := range each {
					if err := s.Send(t.Context(), freshBatch(numbered(i*each+j, 500))); err != nil {
						t.Errorf("send: %v", err)
					}
					time.Sleep(2 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		seen := make(map[uint32]int)
		for _, p := range bob.got() {
			seen[binary.BigEndian.Uint32(p)]++
		}
		for n := range uint32(senders * each) {
			if seen[n] != 1 {
				t.Errorf("packet %d arrived %d times", n, seen[n])
			}
		}
		if alice.counted("resent") == 0 || bob.counted("duplicates") == 0 {
			t.Errorf("resent %d, duplicates %d: the network did no harm", alice.counted("resent"), bob.counted("duplicates"))
		}
		if n := alice.counted("expired"); n != 0 {
			t.Errorf("%d expired", n)
		}
	})
}

func TestWindowHoldsTheSender(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		bob.hold = true
		s := alice.Sender(bob.id.ID())
		defer s.Close()
		const size = 50_000
		sent := 0
		var mu sync.Mutex
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 300 { // 15 MB: twice the window
				if s.Send(ctx, freshBatch(numbered(0, size))) != nil {
					return
				}
				mu.Lock()
				sent++
				mu.Unlock()
			}
		})
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return sent
		}
		synctest.Wait()
		blocked := count()
		if most := int(GenerousGrant) / size; blocked == 0 || blocked > most {
			t.Fatalf("%d messages sent into a window of %d", blocked, most)
		}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if n := count(); n != blocked {
			t.Fatalf("sent %d more although nothing was consumed", n-blocked)
		}
		bob.unhold()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if n := count(); n != 300 {
			t.Fatalf("%d of 300 sent when the window had opened", n)
		}
		cancel()
		wg.Wait()
		if n := bob.counted("over the window"); n != 0 {
			t.Errorf("%d over the window", n)
		}
	})
}

func TestSendObeysContext(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		w.set(faults{drop: 1})
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 700*time.Millisecond, cause)
		defer cancel()
		s := alice.Sender(bob.id.ID())
		defer s.Close()
		began := time.Now()
		err := s.Send(ctx, freshBatch([]byte("x")))
		if !errors.Is(err, cause) || time.Since(began) != 700*time.Millisecond {
			t.Errorf("Send = %v after %v", err, time.Since(began))
		}
		// The opening goes on by itself and fails; the next wait tells why.
		time.Sleep(3 * time.Second)
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err = s.Send(ctx, freshBatch([]byte("x"))); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send = %v, want ErrNoAnswer and the deadline", err)
		}
		if alice.counted("opens repeated") == 0 {
			t.Error("the open was not repeated")
		}
	})
}

// The peer forgets the stream: the restart rule makes a new one.
func TestRestartWhenThePeerForgets(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		s := alice.Sender(bob.id.ID())
		defer s.Close()
		if err := s.Send(t.Context(), freshBatch([]byte("before"))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		bob.in.all()[0].end()
		began := time.Now()
		for time.Since(began) < 4*time.Second {
			if err := s.Send(t.Context(), freshBatch([]byte("after"))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		bob.mu.Lock()
		sinks := len(bob.sinks)
		bob.mu.Unlock()
		if sinks != 2 || len(bob.sinks[1].packets) == 0 {
			t.Fatalf("%d inbound streams, want a second one with packets", sinks)
		}
		if alice.counted("restarts") != 1 || bob.counted("unknown stream") == 0 {
			t.Errorf("restarts %d, unknown stream %d", alice.counted("restarts"), bob.counted("unknown stream"))
		}
	})
}

// A hello with a new session nonce ends what belongs to the old session at once.
func TestNewSessionEndsStreams(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		a, b := alice.Sender(bob.id.ID()), bob.Sender(alice.id.ID())
		defer a.Close()
		defer b.Close()
		for _, s := range []Sender{a, b} {
			if err := s.Send(t.Context(), freshBatch([]byte("old"))); err != nil {
				t.Fatal(err)
			}
		}
		bob.Endpoint.Close()
		again := w.start(bob.id, nil)
		alice.NeighborUp(bob.id.ID(), again.session.Nonce())
		if n := len(alice.in.all()); n != 0 {
			t.Errorf("%d inbound streams of the old session", n)
		}
		if !alice.in.shards[0].mu.TryLock() {
			t.Error("lock held")
		} else {
			alice.in.shards[0].mu.Unlock()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Send(ctx, freshBatch([]byte("new"))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := again.got(); len(got) != 1 || string(got[0]) != "new" {
			t.Errorf("the new session got %q", got)
		}
	})
}

func TestRotation(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		w.set(faults{delay: func() time.Duration { return 10 * time.Millisecond }})
		s := alice.Sender(bob.id.ID())
		defer s.Close()
		for i := range 200 {
			if i == 50 {
				alice.policy.want(Rotate)
			}
			if err := s.Send(t.Context(), freshBatch(numbered(i, 100))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(bob.sinks) != 2 {
			t.Fatalf("%d inbound streams, want 2", len(bob.sinks))
		}
		first, second := bob.sinks[0], bob.sinks[1]
		if second.in.Predecessor() != first.in.ID() {
			t.Error("the successor does not name its predecessor")
		}
		if int(first.final) != len(first.packets) {
			t.Errorf("final number %d of %d messages", first.final, len(first.packets))
		}
		if n := len(bob.got()); n != 200 {
			t.Errorf("%d of 200 packets arrived", n)
		}
		if alice.counted("rotations") != 1 {
			t.Errorf("rotations = %d", alice.counted("rotations"))
		}
		time.Sleep(lateLife + 2*time.Second)
		synctest.Wait()
		if !first.closed || second.closed {
			t.Errorf("closed: first %v, second %v", first.closed, second.closed)
		}
		if n := len(alice.out.all()); n != 1 {
			t.Errorf("alice holds %d outbound streams", n)
		}
	})
}

// The hard limit of age holds whatever the policy says: the stream is renewed, not overrun.
func TestHardAge(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		alice.Endpoint.cfg.Policy = keepPolicy{}
		s := alice.Sender(bob.id.ID())
		defer s.Close()
		failed := 0
		for range 2 * int(HardAge/time.Second) {
			if err := s.Send(t.Context(), freshBatch([]byte("x"))); errors.Is(err, ErrLimit) {
				failed++
			} else if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if len(bob.sinks) < 2 || failed > 2 {
			t.Errorf("%d streams, %d batches met the limit", len(bob.sinks), failed)
		}
	})
}

type keepPolicy struct{}

func (keepPolicy) Decide(Observation) Action { return Keep }

func TestIdleStreamCloses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		s := alice.Sender(bob.id.ID())
		if err := s.Send(t.Context(), freshBatch([]byte("x"))); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s.Close() // twice is once
		time.Sleep(IdleClose + lateLife + 5*time.Second)
		synctest.Wait()
		if n, m := len(alice.out.all()), len(bob.in.all()); n != 0 || m != 0 {
			t.Errorf("%d outbound and %d inbound streams left", n, m)
		}
		alice.Endpoint.mu.Lock()
		peers := len(alice.peers)
		alice.Endpoint.mu.Unlock()
		if peers != 0 {
			t.Errorf("%d peers kept", peers)
		}
	})
}

func TestReadyRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		nobody := func(n *testNode) { n.allow = func(*identity.Certificate) bool { return false } }
		alice := w.start(w.issue("alice"), nobody)
		bob := w.start(w.issue("bob"), nil)
		began := time.Now()
		if err := alice.Ready(t.Context(), bob.id.ID()); !errors.Is(err, ErrNotAllowed) || time.Since(began) > time.Second {
			t.Errorf("Ready = %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := bob.Ready(ctx, alice.id.ID()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ready with a peer that refuses = %v", err)
		}
		if alice.counted("peer not admitted") == 0 {
			t.Error("peer not admitted was not counted")
		}
		list, err := w.authority.Revoke("bob")
		if err != nil {
			t.Fatal(err)
		}
		carol := w.start(w.issue("carol"), nil)
		carol.cfg.Verifier.Apply(list)
		if err := carol.Ready(t.Context(), bob.id.ID()); !errors.Is(err, identity.ErrRevoked) {
			t.Errorf("Ready with a revoked peer = %v", err)
		}
	})
}

// Audit ends the streams of a peer that is revoked while they are open, both ways.
func TestAudit(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		a, b := alice.Sender(bob.id.ID()), bob.Sender(alice.id.ID())
		defer a.Close()
		defer b.Close()
		for _, s := range []Sender{a, b} {
			if err := s.Send(t.Context(), freshBatch([]byte("x"))); err != nil {
				t.Fatal(err)
			}
		}
		list, err := w.authority.Revoke("bob")
		if err != nil {
			t.Fatal(err)
		}
		alice.cfg.Verifier.Apply(list)
		if refused := alice.Audit(); len(refused) != 1 || refused[0].ID != bob.id.ID() {
			t.Errorf("Audit = %v", refused)
		}
		if n, m := len(alice.out.all()), len(alice.in.all()); n != 0 || m != 0 {
			t.Errorf("%d outbound and %d inbound streams with a revoked peer", n, m)
		}
		if err := a.Send(t.Context(), freshBatch([]byte("x"))); !errors.Is(err, identity.ErrRevoked) {
			t.Errorf("Send to a revoked peer = %v", err)
		}
	})
}

func TestCloseWakesEverybody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		w.set(faults{block: true})
		errs := make(chan error)
		for range 5 {
			go func() {
				s := alice.Sender(bob.id.ID())
				defer s.Close()
				errs <- s.Send(context.Background(), freshBatch([]byte("x")))
			}()
		}
		synctest.Wait()
		began := time.Now()
		alice.Endpoint.Close()
		for range 5 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Send = %v", err)
			}
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("Close took %v", d)
		}
		if err := alice.Sender(bob.id.ID()).Send(t.Context(), freshBatch([]byte("x"))); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send after Close = %v", err)
		}
	})
}

// Each way for a message to be wrong has its counter.
func TestDropsAreCounted(t *testing.T) {
	type setup = func(t *testing.T, w *world, alice, bob *testNode)
	// captured sends one message and returns its bytes without delivering them.
	captured := func(t *testing.T, w *world, alice, bob *testNode) []byte {
		s := alice.Sender(bob.id.ID())
		defer s.Close()
		if err := s.Send(t.Context(), freshBatch([]byte("first"))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		var m []byte
		w.set(faults{tamper: func(p []byte) []byte {
			if m == nil && wire.Kind(p[1]) == wire.KindData {
				m = p
			}
			return nil
		}})
		if err := s.Send(t.Context(), freshBatch([]byte("second"))); err != nil {
			t.Fatal(err)
		}
		return append([]byte(nil), m...)
	}
	put := func(w *world, alice, bob *testNode, m []byte) { w.carry(alice.id.ID(), bob.id.ID(), m, nil) }
	tests := []struct {
		drop string
		do   setup
	}{
		{"unknown stream", func(t *testing.T, w *world, alice, bob *testNode) {
			m := captured(t, w, alice, bob)
			m[20] ^= 1
			put(w, alice, bob, m)
		}},
		{"seal broken", func(t *testing.T, w *world, alice, bob *testNode) {
			m := captured(t, w, alice, bob)
			m[len(m)-1] ^= 1
			put(w, alice, bob, m)
		}},
		{"signature not valid", func(t *testing.T, w *world, alice, bob *testNode) {
			bad := true
			alice.signer.sign = func(m []byte) ([]byte, error) {
				sig, err := alice.id.Sign(identity.ContextBatch, m)
				if bad {
					sig[7] ^= 1
				}
				bad = false
				return sig, err
			}
			s := alice.Sender(bob.id.ID())
			defer s.Close()
			if err := s.Send(t.Context(), freshBatch([]byte("x"))); err != nil {
				t.Fatal(err)
			}
			w.set(faults{drop: 1}) // no resending
		}},
		{"malformed", func(t *testing.T, w *world, alice, bob *testNode) {
			m := captured(t, w, alice, bob)
			b := buffer.Get(len(m))
			defer func() {
				b.Append(m[:wire.EnvelopeSize-1])
				bob.Receive(alice.id.ID(), b)
			}()
		}},
		{"replayed", func(t *testing.T, w *world, alice, bob *testNode) {
			m := captured(t, w, alice, bob)
			in := bob.in.all()
			for _, i := range in {
				if i.est.ID == wire.StreamID(m[20:36]) {
					i.est.Opener.mu.Lock()
					i.est.Opener.window.advance(2)
					i.est.Opener.mu.Unlock()
				}
			}
			put(w, alice, bob, m)
		}},
		{"handshake not valid", func(t *testing.T, w *world, alice, bob *testNode) {
			w.set(faults{tamper: func(p []byte) []byte {
				if wire.Kind(p[1]) == wire.KindOpen {
					p[len(p)-1] ^= 1
				}
				w.faults.drop = 1
				return p
			}})
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_ = alice.Ready(ctx, bob.id.ID())
		}},
		{"open of an ended session", func(t *testing.T, w *world, alice, bob *testNode) {
			bob.learned = func(*identity.Record) bool { return false }
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_ = alice.Ready(ctx, bob.id.ID())
			w.set(faults{drop: 1})
		}},
		{"open above the rate", func(t *testing.T, w *world, alice, bob *testNode) {
			bob.Endpoint.mu.Lock()
			for bob.gate.admitOpen(time.Now(), alice.id.ID()) {
			}
			bob.Endpoint.mu.Unlock()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_ = alice.Ready(ctx, bob.id.ID())
		}},
		{"open queue full", func(t *testing.T, w *world, alice, bob *testNode) {
			bob.opens.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_ = alice.Ready(ctx, bob.id.ID())
		}},
		{"over the window", func(t *testing.T, w *world, alice, bob *testNode) {
			m := captured(t, w, alice, bob)
			in := bob.in.all()[0]
			var full Sink = fullSink{}
			in.sink.Store(&full)
			put(w, alice, bob, m)
		}},
		{"expired", func(t *testing.T, w *world, alice, bob *testNode) {
			captured(t, w, alice, bob)
			time.Sleep(MaxAge + 300*time.Millisecond)
			synctest.Wait()
			if n := alice.counted("expired"); n != 1 {
				t.Errorf("expired = %d", n)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.drop, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
				tt.do(t, w, alice, bob)
				synctest.Wait()
				if tt.drop == "expired" {
					return // at alice's, checked there
				}
				if n := bob.counted(tt.drop); n != 1 {
					t.Errorf("%q = %d, want 1; all: %v", tt.drop, n, bob.stats.Stage("stream").Snapshot().Drops)
				}
			})
		})
	}
}

type fullSink struct{}

func (fullSink) Push(*buffer.Buf) bool { return false }
func (fullSink) Pass(uint64, uint64)   {}
func (fullSink) Final(uint64)          {}
func (fullSink) Close()                {}

// Before its first valid data a stream has no Sink, and it is forgotten after a while.
func TestUnconfirmedStreamsAreForgotten(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			p := newPeer(alice.Endpoint, bob.id.ID())
			if _, err := p.open(ctx, nil); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		if n := len(bob.in.all()); n != 3 || len(bob.sinks) != 0 {
			t.Fatalf("%d streams, %d sinks", n, len(bob.sinks))
		}
		time.Sleep(pendingLife + 2*time.Second)
		synctest.Wait()
		if n := len(bob.in.all()); n != 0 || bob.gate.pending != 0 {
			t.Errorf("%d streams left, %d pending", n, bob.gate.pending)
		}
	})
}

func TestRepeatedOpenGetsTheSameAccept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, alice, bob *testNode) {
		var mu sync.Mutex
		var accepts [][]byte
		lose := 2
		w.set(faults{tamper: func(p []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if wire.Kind(p[1]) == wire.KindAccept {
				accepts = append(accepts, p)
				if lose--; lose >= 0 {
					return nil
				}
			}
			return p
		}})
		if err := alice.Ready(t.Context(), bob.id.ID()); err != nil {
			t.Fatal(err)
		}
		if len(accepts) != 3 || string(accepts[0]) != string(accepts[2]) {
			t.Errorf("%d accepts, or they differ", len(accepts))
		}
		if n := bob.counted("duplicates"); n != 2 {
			t.Errorf("duplicates = %d, want 2 repeated opens", n)
		}
		if n := len(bob.in.all()); n != 1 {
			t.Errorf("%d inbound streams", n)
		}
	})
}

func BenchmarkSend(b *testing.B) {
	for _, size := range []int{64, 37_500} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := newWorld(b)
			defer w.close()
			alice, bob := w.start(w.issue("alice"), nil), w.start(w.issue("bob"), nil)
			s := alice.Sender(bob.id.ID())
			defer s.Close()
			packet := make([]byte, min(size, 1500))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				batch := NewBatch(size)
				for n := 0; n < size; n += len(packet) {
					batch.Add(packet)
				}
				batch.SetBorn(time.Now())
				if err := s.Send(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
