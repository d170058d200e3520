package identity

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestCache compares the cache with a slice of keys in order of use.
func TestCache(t *testing.T) {
	const capacity = 8
	c := newCache[*int](capacity)
	var model []byte // keys, the one used last at the end
	values := map[byte]*int{}
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		k := byte(r.IntN(capacity * 2))
		at := slices.Index(model, k)
		got, ok := c.get([32]byte{k})
		if ok != (at >= 0) || ok && got != values[k] {
			t.Fatalf("get %d: %v, want it to be there: %v", k, ok, at >= 0)
		}
		if at >= 0 {
			model = append(slices.Delete(model, at, at+1), k)
		} else if r.IntN(2) == 0 {
			v := new(int)
			if c.put([32]byte{k}, v) != v || c.put([32]byte{k}, new(int)) != v {
				t.Fatal("put did not return the first value")
			}
			if values[k] = v; len(model) == capacity {
				model = model[1:]
			}
			model = append(model, k)
		}
		if len(c.entries) != len(model) || c.order.Len() != len(model) {
			t.Fatalf("%d entries, want %d", len(c.entries), len(model))
		}
	}
}
