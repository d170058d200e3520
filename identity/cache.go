package identity

import (
	"container/list"
	"sync"
)

// cache keeps the values used last under the hash of the bytes they were verified from. It is safe
// for concurrent use.
type cache[V any] struct {
	capacity int

	mu      sync.Mutex
	order   *list.List // of cacheEntry[V], the one used last in front
	entries map[[32]byte]*list.Element
}

type cacheEntry[V any] struct {
	key   [32]byte
	value V
}

func newCache[V any](capacity int) *cache[V] {
	return &cache[V]{capacity: capacity, order: list.New(), entries: make(map[[32]byte]*list.Element)}
}

func (c *cache[V]) get(key [32]byte) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		var zero V
		return zero, false
	}
	c.order.MoveToFront(e)
	return e.Value.(cacheEntry[V]).value, true
}

// put adds a value, and drops the one that was not used for longest if there are too many. It
// returns the value to use: that of another goroutine if it was faster, so that equal bytes yield
// the same pointer.
func (c *cache[V]) put(key [32]byte, value V) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		return e.Value.(cacheEntry[V]).value
	}
	if c.order.Len() >= c.capacity {
		oldest := c.order.Back()
		delete(c.entries, c.order.Remove(oldest).(cacheEntry[V]).key)
	}
	c.entries[key] = c.order.PushFront(cacheEntry[V]{key, value})
	return value
}
