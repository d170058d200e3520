package stream

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/veil-net/anchor/internal/wire"
)

// Signer signs the messages of all streams of a node. A caller that finds it idle signs at
// once, alone. Callers that come while a signature is being made gather, up to 32, and one of
// them signs for all as soon as the signature before is done: the leaves become a Merkle
// tree, the signature covers n ‖ root. So nobody waits for company, and under load the cost
// of a signature is shared. It has no goroutine of its own and is safe for concurrent use.
type Signer struct {
	sign func(message []byte) ([]byte, error)

	mu        sync.Mutex
	turn      sync.Cond
	busy      bool   // a signature is being made
	serving   uint64 // the round that signs next, or signs now
	opened    uint64 // the next round's turn
	gathering *round // takes more callers; nil if none is waiting

	rounds sync.Pool
}

// round is the callers that share one signature.
type round struct {
	tree      tree
	message   [1 + wire.HashSize]byte // n ‖ root
	turn      uint64
	callers   int          // grows while gathering, under Signer.mu
	left      atomic.Int32 // callers that still read the result
	done      bool         // under Signer.mu
	signature []byte
	err       error
}

// NewSigner returns a Signer that signs n ‖ root with sign, which must return an ML-DSA-44
// signature in context batch and be safe to call from several goroutines, one at a time.
func NewSigner(sign func(message []byte) ([]byte, error)) *Signer {
	s := &Signer{sign: sign}
	s.turn.L = &s.mu
	s.rounds.New = func() any { return new(round) }
	return s
}

// Sign signs leaf and appends its signature block to dst, which should have room for
// wire.MaxSignatureBlock bytes. It blocks while a signature is being made and its own is, a
// matter of microseconds that nothing cancels.
func (s *Signer) Sign(leaf [wire.HashSize]byte, dst []byte) ([]byte, error) {
	s.mu.Lock()
	r := s.gathering
	if r == nil {
		r = s.open()
	}
	index := r.callers
	r.tree.levels[0][index] = leaf
	r.callers++
	if r.callers == wire.MaxLeaves {
		s.gathering = nil // the next caller opens another
	}
	if index == 0 {
		s.lead(r)
	} else {
		for !r.done {
			s.turn.Wait()
		}
	}
	s.mu.Unlock()
	return s.leave(r, index, dst)
}

// open starts a round. The caller holds mu.
func (s *Signer) open() *round {
	r := s.rounds.Get().(*round)
	r.callers, r.done = 0, false
	r.turn = s.opened
	s.opened++
	s.gathering = r
	return r
}

// lead waits for the turn of r, closes it to further callers and signs it. The caller holds
// mu, which is released meanwhile.
func (s *Signer) lead(r *round) {
	for s.busy || s.serving != r.turn {
		s.turn.Wait()
	}
	s.busy = true
	s.mu.Unlock()
	// Callers that could run but for this one join now: with few processors they would else
	// each find the Signer idle, one after the other. It costs nothing if there are none.
	runtime.Gosched()
	s.mu.Lock()
	if s.gathering == r {
		s.gathering = nil
	}
	s.mu.Unlock()

	root := r.tree.build(r.callers)
	r.message[0] = byte(r.callers)
	copy(r.message[1:], root[:])
	r.signature, r.err = s.sign(r.message[:])
	if r.err == nil && len(r.signature) != wire.SignatureSize {
		r.err = fmt.Errorf("signature of %d bytes: %w", len(r.signature), ErrMalformed)
	}
	r.left.Store(int32(r.callers))

	s.mu.Lock()
	r.done = true
	s.busy = false
	s.serving++
	s.turn.Broadcast()
}

// leave takes one caller's result out of a round that is done. The last to leave gives the
// round back.
func (s *Signer) leave(r *round, index int, dst []byte) ([]byte, error) {
	err := r.err
	if err == nil {
		dst = append(dst, byte(r.tree.n), byte(index))
		dst = r.tree.appendPath(dst, index)
		dst = append(dst, r.signature...)
	}
	if r.left.Add(-1) == 0 {
		r.signature, r.err = nil, nil
		s.rounds.Put(r)
	}
	if err != nil {
		return nil, fmt.Errorf("stream: sign: %w", err)
	}
	return dst, nil
}
