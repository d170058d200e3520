package control

import "container/list"

// lru is a map that forgets what was not used for longest. It is not safe for concurrent use.
type lru[K comparable, V any] struct {
	max   int
	order *list.List // of *lruEntry, used last in front
	items map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](max int) *lru[K, V] {
	return &lru[K, V]{max: max, order: list.New(), items: make(map[K]*list.Element)}
}

// get returns the value under k and counts as a use.
func (l *lru[K, V]) get(k K) (v V, ok bool) {
	e := l.items[k]
	if e == nil {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).value, true
}

// put sets the value under k, and returns what had to go for it.
func (l *lru[K, V]) put(k K, v V) (gone V, evicted bool) {
	if e := l.items[k]; e != nil {
		e.Value.(*lruEntry[K, V]).value = v
		l.order.MoveToFront(e)
		return gone, false
	}
	l.items[k] = l.order.PushFront(&lruEntry[K, V]{k, v})
	if len(l.items) <= l.max {
		return gone, false
	}
	e := l.order.Remove(l.order.Back()).(*lruEntry[K, V])
	delete(l.items, e.key)
	return e.value, true
}

// remove forgets k.
func (l *lru[K, V]) remove(k K) {
	if e := l.items[k]; e != nil {
		l.order.Remove(e)
		delete(l.items, k)
	}
}
