// Package stats counts what happens in the stages of a node. Counters are registered by
// name when a stage is built, and are plain atomics afterwards: counting allocates nothing
// and takes no lock.
package stats

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Counter is a number that only grows. Safe for concurrent use.
type Counter struct{ n atomic.Uint64 }

// Add adds n.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Inc adds 1.
func (c *Counter) Inc() { c.n.Add(1) }

// Load returns the count.
func (c *Counter) Load() uint64 { return c.n.Load() }

// Set holds the stages of one node. The zero value is ready for use, and so is a nil *Set:
// each call of its method Stage makes a stage of its own, which counts, but which nobody lists.
type Set struct {
	mu     sync.Mutex
	stages map[string]*Stage
}

// Stage returns the stage of that name, made at the first call. Safe for concurrent use.
func (s *Set) Stage(name string) *Stage {
	if s == nil {
		return &Stage{name: name}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stages[name]
	if st == nil {
		st = &Stage{name: name}
		if s.stages == nil {
			s.stages = make(map[string]*Stage)
		}
		s.stages[name] = st
	}
	return st
}

// Stage counts what enters and leaves one stage, what it drops by reason, and what it
// notes without dropping.
type Stage struct {
	// In and Out count units (packets or messages) that entered and left.
	In, Out Counter

	name  string
	mu    sync.Mutex
	drops map[string]*Counter
	notes map[string]*Counter
}

// Drop returns the counter of units dropped for a reason. Call it when the stage is built
// and keep the result. In steady operation every drop counter stays 0.
func (s *Stage) Drop(reason string) *Counter { return s.named(&s.drops, reason) }

// Note returns a counter of events that are no loss: duplicates, ignored multicast, retries.
func (s *Stage) Note(name string) *Counter { return s.named(&s.notes, name) }

func (s *Stage) named(m *map[string]*Counter, name string) *Counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := (*m)[name]
	if c == nil {
		c = new(Counter)
		if *m == nil {
			*m = make(map[string]*Counter)
		}
		(*m)[name] = c
	}
	return c
}

// Snapshot is the state of a stage at one moment. Drops and Notes hold every registered
// name, at 0 too.
type Snapshot struct {
	Name    string
	In, Out uint64
	Drops   map[string]uint64
	Notes   map[string]uint64
}

// Dropped is the sum of all drops.
func (s Snapshot) Dropped() uint64 {
	var sum uint64
	for _, n := range s.Drops {
		sum += n
	}
	return sum
}

// Snapshot returns all stages, sorted by name. Safe for concurrent use.
func (s *Set) Snapshot() []Snapshot {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	stages := slices.Collect(maps.Values(s.stages))
	s.mu.Unlock()
	out := make([]Snapshot, 0, len(stages))
	for _, st := range stages {
		out = append(out, st.Snapshot())
	}
	slices.SortFunc(out, func(a, b Snapshot) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Snapshot returns the state of one stage. Safe for concurrent use.
func (s *Stage) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Snapshot{
		Name: s.name, In: s.In.Load(), Out: s.Out.Load(),
		Drops: loadAll(s.drops), Notes: loadAll(s.notes),
	}
}

func loadAll(m map[string]*Counter) map[string]uint64 {
	out := make(map[string]uint64, len(m))
	for name, c := range m {
		out[name] = c.Load()
	}
	return out
}
