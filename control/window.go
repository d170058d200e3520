package control

// windowSize is how far behind the highest counter of a session a message may come.
const windowSize = 1024

// window remembers which counters of a session were seen. The zero window has seen none.
type window struct {
	high uint64 // the highest seen, if any
	any  bool
	bits [windowSize / 64]uint64 // by counter modulo windowSize; those of high-windowSize+1 to high
}

// take reports whether counter n is new, and remembers it. What is too old to tell is not new.
func (w *window) take(n uint64) bool {
	switch {
	case !w.any:
		w.any, w.high = true, n
	case n > w.high:
		if n-w.high >= windowSize {
			clear(w.bits[:])
		} else {
			for i := w.high + 1; i != n; i++ {
				w.bits[i%windowSize/64] &^= 1 << (i % 64)
			}
			w.bits[n%windowSize/64] &^= 1 << (n % 64)
		}
		w.high = n
	case w.high-n >= windowSize:
		return false
	}
	word, bit := &w.bits[n%windowSize/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
