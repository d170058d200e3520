package queue

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
)

// model is the queue as slowly and plainly as it can be written.
type model struct {
	items, weights []int
	cap            int
	policy         Policy
	closed         bool
	high           int
	dropped        uint64
}

func (m *model) used() (sum int) {
	for _, w := range m.weights {
		sum += w
	}
	return sum
}

func (m *model) take(v int) {
	m.items, m.weights = append(m.items, v), append(m.weights, v%7+1)
	m.high = max(m.high, m.used())
}

func TestAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &model{cap: 1 + r.IntN(40), policy: []Policy{Wait, Drop, Admit}[r.IntN(3)]}
		q := New(nil, Config{Name: "model", Capacity: m.cap, Policy: m.policy}, func(v int) int { return v%7 + 1 })
		for op := range 400 {
			stepModel(t, r, m, q, op)
			s := q.Stats()
			if s.Len != len(m.items) || s.Used != m.used() || s.HighWater != m.high || s.Dropped != m.dropped {
				t.Fatalf("seed %d op %d: queue %+v, model %+v", seed, op, s, m)
			}
			if q.HasRoom() != (!m.closed && m.used() < m.cap) {
				t.Fatalf("seed %d op %d: HasRoom %v", seed, op, q.HasRoom())
			}
		}
	}
}

func stepModel(t *testing.T, r *rand.Rand, m *model, q *Queue[int], v int) {
	t.Helper()
	room := !m.closed && m.used() < m.cap
	switch r.IntN(16) {
	case 0, 1, 2:
		if q.TryPush(v) != room {
			t.Fatalf("TryPush, room %v", room)
		}
		if room {
			m.take(v)
		}
	case 3, 4:
		if q.Force(v) != !m.closed {
			t.Fatal("Force")
		}
		if !m.closed {
			m.take(v)
		}
	case 5, 6, 7:
		vs := []int{v, v + 1, v + 2}
		n, err := q.Offer(vs)
		want := 0
		for !m.closed && want < 3 && (m.policy == Admit || m.used() < m.cap) {
			m.take(vs[want])
			want++
		}
		if m.policy == Drop && !m.closed {
			m.dropped += uint64(3 - want)
		}
		if n != want || (err == nil) != (n == 3) || errors.Is(err, net.ErrClosed) != m.closed {
			t.Fatalf("Offer = %d, %v, want %d", n, err, want)
		}
	case 8, 9, 10, 11, 12, 13, 14:
		dst := make([]int, 1+r.IntN(6))
		limit := r.IntN(1000)
		n := q.TryPopFunc(dst, func(v int) bool { return v%1000 >= limit/2 })
		want := 0
		for want < len(dst) && want < len(m.items) && m.items[want]%1000 >= limit/2 {
			want++
		}
		if !slices.Equal(dst[:n], m.items[:want]) {
			t.Fatalf("popped %v, want %v", dst[:n], m.items[:want])
		}
		m.items, m.weights = m.items[want:], m.weights[want:]
	case 15:
		if r.IntN(40) == 0 {
			q.Close()
			m.closed = true
		}
	}
}
