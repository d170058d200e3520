package queue

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Stats is the state of all queues of one name. Counts and times include queues that are
// gone by now; Queues, Len, Used and Waiting are those of the moment.
type Stats struct {
	Name     string
	Unit     string
	Policy   Policy
	Capacity int // of one queue, in Unit

	Queues    int           // queues open now
	Len       int           // items waiting in them
	Used      int           // their weight, in Unit
	HighWater int           // the highest weight that one queue has held
	In, Out   uint64        // items
	Dropped   uint64        // items refused under the policy Drop
	Waits     uint64        // how often a writer waited
	Waiting   int           // writers waiting now
	Waited    time.Duration // how long writers waited, together
}

// tally is what a queue counts itself.
type tally struct {
	in, out, dropped, waits uint64
	high, waiting           int
	waited                  time.Duration
}

type source interface {
	snapshot() (t tally, n, used int)
}

// Registry lists the queues of one node. The zero value is ready for use; a nil *Registry
// registers nothing. All methods are safe for concurrent use.
type Registry struct {
	mu     sync.Mutex
	groups map[string]*group
}

type group struct {
	cfg  Config
	open map[source]struct{}
	past tally
}

func (r *Registry) add(cfg Config, q source) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[cfg.Name]
	if g == nil {
		g = &group{open: make(map[source]struct{})}
		if r.groups == nil {
			r.groups = make(map[string]*group)
		}
		r.groups[cfg.Name] = g
	}
	g.cfg = cfg
	g.open[q] = struct{}{}
}

func (r *Registry) remove(cfg Config, q source) {
	if r == nil {
		return
	}
	t, _, _ := q.snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[cfg.Name]
	if _, ok := g.open[q]; ok {
		delete(g.open, q)
		g.past = g.past.plus(t)
	}
}

// Snapshot returns one entry per name, sorted by name.
func (r *Registry) Snapshot() []Stats {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Stats, 0, len(r.groups))
	for name, g := range r.groups {
		s := Stats{Name: name, Unit: g.cfg.Unit, Policy: g.cfg.Policy, Capacity: g.cfg.Capacity, Queues: len(g.open)}
		sum := g.past
		for q := range g.open {
			t, n, used := q.snapshot()
			sum = sum.plus(t)
			s.Len += n
			s.Used += used
			s.Waiting += t.waiting
		}
		s.HighWater, s.In, s.Out, s.Dropped = sum.high, sum.in, sum.out, sum.dropped
		s.Waits, s.Waited = sum.waits, sum.waited
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Stats) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// plus adds counts; the high-water mark is the higher of the two.
func (t tally) plus(u tally) tally {
	t.in += u.in
	t.out += u.out
	t.dropped += u.dropped
	t.waits += u.waits
	t.waited += u.waited
	t.high = max(t.high, u.high)
	return t
}

func (q *Queue[T]) snapshot() (t tally, n, used int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tally, q.n, q.used
}

// Stats returns the state of this queue alone.
func (q *Queue[T]) Stats() Stats {
	t, n, used := q.snapshot()
	return Stats{
		Name: q.cfg.Name, Unit: q.cfg.Unit, Policy: q.cfg.Policy, Capacity: q.cfg.Capacity,
		Queues: 1, Len: n, Used: used, HighWater: t.high,
		In: t.in, Out: t.out, Dropped: t.dropped,
		Waits: t.waits, Waiting: t.waiting, Waited: t.waited,
	}
}
