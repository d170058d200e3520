package stream

import (
	"sync"

	"github.com/veil-net/anchor/internal/wire"
)

// table maps stream ids to streams. It is split into shards by the id, which is a hash, so
// that the messages of many streams do not meet at one lock. The zero value is ready for use;
// all methods are safe for concurrent use.
type table[T any] struct {
	shards [16]shard[T]
}

type shard[T any] struct {
	mu sync.RWMutex
	m  map[wire.StreamID]T
}

func (t *table[T]) shard(id wire.StreamID) *shard[T] { return &t.shards[id[0]%16] }

func (t *table[T]) get(id wire.StreamID) (T, bool) {
	s := t.shard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.m[id]
	return v, ok
}

// put stores v unless the id is taken, and reports whether it did.
func (t *table[T]) put(id wire.StreamID, v T) bool {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.m[id]; taken {
		return false
	}
	if s.m == nil {
		s.m = make(map[wire.StreamID]T)
	}
	s.m[id] = v
	return true
}

func (t *table[T]) remove(id wire.StreamID) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, id)
}

// all returns a copy of the values, in no order.
func (t *table[T]) all() []T {
	var out []T
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for _, v := range s.m {
			out = append(out, v)
		}
		s.mu.RUnlock()
	}
	return out
}
