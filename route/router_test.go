package route

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/tether"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNeighbor has room while open is closed.
type fakeNeighbor struct {
	tether.Neighbor
	id   identity.ID
	room chan struct{} // closed: room
	fail error
	sent [][]byte
}

func (n *fakeNeighbor) ID() identity.ID         { return n.id }
func (n *fakeNeighbor) Session() identity.Nonce { return identity.Nonce{7} }
func (n *fakeNeighbor) WaitRoom(ctx context.Context) error {
	select {
	case <-n.room:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
func (n *fakeNeighbor) Send(_ context.Context, m *buffer.Buf) error {
	defer m.Release()
	if n.fail != nil {
		return n.fail
	}
	n.sent = append(n.sent, append([]byte(nil), m.Bytes()...))
	return nil
}

type fakeTethers struct {
	up   *fakeNeighbor
	open func(ctx context.Context) (tether.Neighbor, error)
}

func (t *fakeTethers) Neighbor(identity.ID) (tether.Neighbor, bool) {
	if t.up == nil {
		return nil, false
	}
	return t.up, true
}
func (t *fakeTethers) Open(ctx context.Context, _ identity.ID) (tether.Neighbor, error) {
	return t.open(ctx)
}

type fakeLocal struct {
	tag  identity.Tag
	got  int
	up   []identity.Nonce
	down int
}

func (l *fakeLocal) IsLocal(t identity.Tag) bool                { return t == l.tag }
func (l *fakeLocal) Receive(_ identity.ID, m *buffer.Buf)       { l.got++; m.Release() }
func (l *fakeLocal) NeighborUp(_ identity.ID, s identity.Nonce) { l.up = append(l.up, s) }
func (l *fakeLocal) NeighborDown(identity.ID)                   { l.down++ }

func openRoom() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func message(mutate func(*wire.Envelope)) *buffer.Buf {
	e := wire.Envelope{Kind: wire.KindData, HopLimit: 16, Tag: wire.Tag{1}}
	if mutate != nil {
		mutate(&e)
	}
	b := buffer.Get(wire.EnvelopeSize)
	e.Put(b.Extend(wire.EnvelopeSize))
	return b
}

func TestReceiveCounts(t *testing.T) {
	raw := func(change func([]byte) []byte) *buffer.Buf {
		b := message(nil)
		defer b.Release()
		p := change(append([]byte(nil), b.Bytes()...))
		out := buffer.Get(min(len(p), buffer.MaxSize))
		out.Append(p) // the tail-room takes what is above MaxSize
		return out
	}
	tests := []struct {
		drop string
		m    *buffer.Buf
	}{
		{"short message", raw(func(p []byte) []byte { return p[:wire.EnvelopeSize-1] })},
		{"long message", raw(func(p []byte) []byte { return append(p, make([]byte, wire.MaxMessage+1-len(p))...) })},
		{"unknown version", raw(func(p []byte) []byte { p[0] = 2; return p })},
		{"unknown kind", raw(func(p []byte) []byte { p[1] = 8; return p })},
		{"reserved flags", raw(func(p []byte) []byte { p[3] = 4; return p })},
		{"hop limit", message(func(e *wire.Envelope) { e.HopLimit = 0 })},
		{"hop limit", message(func(e *wire.Envelope) { e.HopLimit = 17 })},
		{"not for this anchor", message(func(e *wire.Envelope) { e.Tag = wire.Tag{2} })},
	}
	for _, tt := range tests {
		t.Run(tt.drop, func(t *testing.T) {
			var set stats.Set
			local := &fakeLocal{tag: wire.Tag{1}}
			r := New(Config{Local: local, Stats: &set})
			r.Receive(&fakeNeighbor{}, tt.m)
			s := set.Snapshot()[0]
			if s.Drops[tt.drop] != 1 || s.Dropped() != 1 || local.got != 0 {
				t.Errorf("drops %v, delivered %d; want 1 %q", s.Drops, local.got, tt.drop)
			}
		})
	}
	var set stats.Set
	local := &fakeLocal{tag: wire.Tag{1}}
	r := New(Config{Local: local, Stats: &set})
	r.Receive(&fakeNeighbor{}, message(nil))
	if s := set.Snapshot()[0]; local.got != 1 || s.Dropped() != 0 {
		t.Errorf("a good message: delivered %d, dropped %d", local.got, s.Dropped())
	}
}

func TestPickWaitsForTetherAndRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNeighbor{id: identity.ID{9}, room: make(chan struct{})}
		opened := make(chan struct{})
		r := New(Config{Tethers: &fakeTethers{open: func(ctx context.Context) (tether.Neighbor, error) {
			<-opened
			return n, nil
		}}})
		var d Descriptor
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			d, err = r.Pick(t.Context(), &Destination{ID: identity.ID{9}}, Request{Size: 100})
		}()
		returned := func() bool {
			synctest.Wait()
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
		if returned() {
			t.Fatal("Pick returned before the tether was up")
		}
		close(opened)
		if returned() {
			t.Fatal("Pick returned before the hop had room")
		}
		close(n.room)
		if !returned() || err != nil || d.NextHop != n.id {
			t.Fatalf("Pick = %+v, %v", d, err)
		}
		if err := r.Send(t.Context(), d, message(nil)); err != nil || len(n.sent) != 1 {
			t.Fatalf("Send: %v, %d sent", err, len(n.sent))
		}
	})
}

func TestPickErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("ice failed")
		r := New(Config{Tethers: &fakeTethers{open: func(context.Context) (tether.Neighbor, error) { return nil, cause }}})
		_, err := r.Pick(t.Context(), &Destination{}, Request{})
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, cause) {
			t.Errorf("Pick without a way: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r = New(Config{Tethers: &fakeTethers{up: &fakeNeighbor{room: make(chan struct{})}}})
		_, err = r.Pick(ctx, &Destination{}, Request{})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnreachable) {
			t.Errorf("Pick with a full hop: %v", err)
		}
	})
}

func TestSendErrors(t *testing.T) {
	var set stats.Set
	n := &fakeNeighbor{room: openRoom(), fail: tether.ErrDown}
	r := New(Config{Tethers: &fakeTethers{up: n}, Stats: &set})
	d, err := r.Pick(t.Context(), &Destination{}, Request{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Send(t.Context(), d, message(nil)); !errors.Is(err, tether.ErrDown) {
		t.Errorf("Send by a dead hop: %v", err)
	}
	if got := set.Snapshot()[0].Notes["hop gone while sending"]; got != 1 {
		t.Errorf("hop gone while sending = %d", got)
	}
	if err := r.Send(t.Context(), Descriptor{}, message(nil)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Send with a made-up descriptor: %v", err)
	}
}

// wrongPolicy answers out of range, as a user's might.
type wrongPolicy struct{ died int }

func (wrongPolicy) Choose(*Query) Choice { return Choice{Hop: 5} }
func (p *wrongPolicy) Observe(o Observation) {
	if o.Outcome == Died {
		p.died++
	}
}

func TestPolicyAndLifecycle(t *testing.T) {
	p := &wrongPolicy{}
	local := &fakeLocal{}
	n := &fakeNeighbor{id: identity.ID{3}, room: openRoom()}
	r := New(Config{Policy: p})
	r.Bind(&fakeTethers{up: n}, local)
	if d, err := r.Pick(t.Context(), &Destination{ID: n.id}, Request{}); err != nil || d.NextHop != n.id {
		t.Errorf("Pick under a wrong policy = %+v, %v", d, err)
	}
	r.Up(n)
	r.Down(n)
	if len(local.up) != 1 || local.up[0] != (identity.Nonce{7}) || local.down != 1 || p.died != 1 {
		t.Errorf("up %v, down %d, policy told %d", local.up, local.down, p.died)
	}
}

func BenchmarkPick(b *testing.B) {
	n := &fakeNeighbor{room: openRoom()}
	r := New(Config{Tethers: &fakeTethers{up: n}})
	to := &Destination{ID: identity.ID{3}}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Pick(ctx, to, Request{Size: 1000}); err != nil {
			b.Fatal(err)
		}
	}
}
