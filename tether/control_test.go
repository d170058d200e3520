package tether

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

// member is a Manager over a real control channel.
type member struct {
	*Manager
	channel control.Channel
	sink    *sink
}

// join starts a session of id on a Master within this process.
func join(tb testing.TB, f control.Fabric, id *identity.Identity) *member {
	tb.Helper()
	s := newSession(tb, id) // a session serves one channel
	v := identity.NewVerifier(id, nil)
	m := &member{channel: control.New(f, s, v, control.Options{}), sink: newSink()}
	m.Manager = NewManager(Config{
		Session: s, Verifier: v, Control: m.channel, Receiver: m.sink, Loopback: true, Usable: loopbackOnly,
	})
	handler := func(msg control.Message) {
		if msg.Topic == control.TopicSignal {
			m.HandleSignal(msg)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := m.channel.Start(ctx, handler); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = m.Manager.Close()
		_ = m.channel.Close()
	})
	return m
}

// TestOverControl opens tethers, both ways, with signalling that is sealed and signed.
func TestOverControl(t *testing.T) {
	f := control.NewMemory(control.MemoryOptions{})
	a, b := join(t, f.Side("a"), members()[0]), join(t, f.Side("b"), members()[1])
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, x := range [][2]*member{{a, b}, {b, a}} {
		n, err := x[0].Open(ctx, x[1].own.ID)
		if err != nil {
			t.Fatal(err)
		}
		if n.Session() != x[1].nonce {
			t.Error("it is another session")
		}
		x[0].Drop(x[1].own.ID)
		<-n.Done()
	}
	// The peer starts anew: its new session takes the tether over.
	n, err := a.Open(ctx, b.own.ID)
	if err != nil {
		t.Fatal(err)
	}
	f.Partition("b", control.PartitionSilent) // as if killed
	again := join(t, f.Side("c"), members()[1])
	start := time.Now()
	if _, err := again.Open(ctx, a.own.ID); err != nil {
		t.Fatal(err)
	}
	t.Logf("open from the new session after %v", time.Since(start))
	<-n.Done()
	nb, err := a.Open(ctx, b.own.ID) // the one that is up, or about to be
	if err != nil || nb.Session() != again.nonce {
		t.Errorf("the tether is not of the new session: %v", err)
	}
}

// BenchmarkConnectOverControl is BenchmarkConnect with real seals and signatures.
func BenchmarkConnectOverControl(b *testing.B) {
	f := control.NewMemory(control.MemoryOptions{})
	x, y := join(b, f, members()[0]), join(b, f, members()[1])
	var took []time.Duration
	b.ResetTimer()
	for range b.N {
		start := time.Now()
		n, err := y.Open(context.Background(), x.own.ID)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		b.StopTimer()
		for ok := false; !ok; _, ok = x.Neighbor(y.own.ID) {
			time.Sleep(time.Millisecond)
		}
		y.Drop(x.own.ID)
		<-n.Done()
		for ok := true; ok; _, ok = x.Neighbor(y.own.ID) {
			time.Sleep(time.Millisecond)
		}
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}
