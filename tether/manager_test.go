package tether

import (
	"context"
	"testing"
	"time"
)

func TestOpenEitherWay(t *testing.T) {
	for _, by := range []string{"lower", "higher"} {
		t.Run(by, func(t *testing.T) {
			_, a, b := pair(t, nil)
			if by == "higher" {
				a, b = b, a
			}
			start := time.Now()
			n := a.open(b)
			t.Logf("opened in %v", time.Since(start))
			if n.ID() != b.id() || n.Session() != b.session.Nonce() {
				t.Error("the neighbour is somebody else")
			}
			b.await("its tether", func() bool { _, ok := b.Neighbor(a.id()); return ok })
			back, _ := b.Neighbor(a.id())
			if err := n.Send(context.Background(), message("there")); err != nil {
				t.Fatal(err)
			}
			if err := back.Send(context.Background(), message("and back")); err != nil {
				t.Fatal(err)
			}
			for _, n := range []*node{a, b} {
				n.await("a message", func() bool { _, _, m := n.sink.counts(); return m == 1 })
			}
			a.await("the acknowledgement", func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.acked == 1
			})
			if i := n.Info(); i.Links != 1 || i.Path != PathDirect || i.Sent == 0 || i.Since.IsZero() {
				t.Errorf("info: %+v", i)
			}
			again := a.open(b)
			if again != n {
				t.Error("a second Open made a second tether")
			}
			a.noDrops()
			b.noDrops()
		})
	}
}
