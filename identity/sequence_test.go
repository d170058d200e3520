package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"testing"
)

func TestChainIsTheProtocols(t *testing.T) {
	seed := [32]byte{9}
	mac := hmac.New(sha256.New, seed[:])
	mac.Write([]byte("anchor/1 seq\x00\x00\x50\x21"))
	slow := [32]byte(mac.Sum(nil))
	c := newChain(seed, 0x5021)
	check := map[uint32]bool{0: true, 1: true, 511: true, 512: true, 513: true, 1000: true, MaxSequence / 2: true, MaxSequence - 1: true, MaxSequence: true}
	for n := uint32(MaxSequence); ; n-- {
		if check[n] && c.proof(n) != slow {
			t.Errorf("proof of %d differs from the plain chain's value", n)
		}
		if n == 0 {
			break
		}
		slow = sha256.Sum256(slow[:])
	}
}

func TestVerifySequence(t *testing.T) {
	c := newChain([32]byte{9}, 1)
	other := newChain([32]byte{9}, 2)
	for _, s := range []struct{ from, n uint32 }{{0, 0}, {0, 1}, {0, 5000}, {4999, 5000}, {7, 7}, {0, MaxSequence}, {MaxSequence, MaxSequence}} {
		if !VerifySequence(c.proof(s.from), s.from, c.proof(s.n), s.n) {
			t.Errorf("proof of %d from %d does not verify", s.n, s.from)
		}
		if VerifySequence(c.proof(s.from), s.from, other.proof(s.n), s.n) {
			t.Errorf("another epoch's proof of %d from %d verifies", s.n, s.from)
		}
	}
	for _, s := range []struct{ from, claimed, proven uint32 }{{0, 2, 1}, {0, 1, 2}, {5, 4, 4}, {5, 6, 5}, {5, 5, 6}} {
		if VerifySequence(c.proof(s.from), s.from, c.proof(s.proven), s.claimed) {
			t.Errorf("%d verifies from %d with the proof of %d", s.claimed, s.from, s.proven)
		}
	}
	if VerifySequence(c.proof(0), 0, c.proof(0), MaxSequence+1) || VerifySequence(c.proof(0), MaxSequence+1, c.proof(0), MaxSequence+1) {
		t.Error("a number beyond the chain verifies")
	}
}
