package stream

// Window is the number of messages that may be outstanding in a stream: a message's number is
// less than Window above the lowest number that is neither acknowledged nor given up.
const Window = 8192

// replay remembers which numbers of one direction arrived. It holds the window above the
// floor, where arrivals are awaited, and as much below, only to tell a late copy of what
// arrived (ErrDuplicate) from a message that was given up (ErrReplayed). The zero value is
// ready for use. It is not safe for concurrent use.
type replay struct {
	floor uint64
	bits  [2 * Window / 64]uint64
}

// check says whether number may still arrive: nil, ErrDuplicate or ErrReplayed.
func (r *replay) check(number uint64) error {
	switch {
	case number >= r.floor+Window:
		return nil
	case number+Window < r.floor:
		return ErrReplayed
	case r.bits[number/64%uint64(len(r.bits))]&(1<<(number%64)) != 0:
		return ErrDuplicate
	case number < r.floor:
		return ErrReplayed
	}
	return nil
}

// mark checks number once more and records it. floor is what the authenticated message says
// and at most number. A sender never has Window messages outstanding, so whatever is Window
// below an authenticated number will not come any more either.
func (r *replay) mark(number, floor uint64) error {
	if number >= Window {
		floor = max(floor, number-(Window-1))
	}
	r.advance(floor)
	if err := r.check(number); err != nil {
		return err
	}
	r.bits[number/64%uint64(len(r.bits))] |= 1 << (number % 64)
	return nil
}

// advance raises the floor and clears the bits of the numbers that enter the window.
func (r *replay) advance(floor uint64) {
	if floor <= r.floor {
		return
	}
	if floor-r.floor >= 2*Window {
		clear(r.bits[:])
		r.floor = floor
		return
	}
	for n := r.floor + Window; n < floor+Window; {
		word := &r.bits[n/64%uint64(len(r.bits))]
		if n%64 == 0 && floor+Window-n >= 64 {
			*word = 0
			n += 64
			continue
		}
		*word &^= 1 << (n % 64)
		n++
	}
	r.floor = floor
}
