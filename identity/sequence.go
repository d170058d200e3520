package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// MaxSequence is the highest sequence number of an epoch: the length of the hash chain that a
// record commits to. At one a second it lasts three days.
const MaxSequence = 1 << 18

// chainStride is the distance of the values that a chain keeps: a proof costs at most this many
// hashes, and a chain takes 16 KiB.
const chainStride = 1 << 9

// chain is an anchor's hash chain of one epoch. Only the anchor itself can go up it, by showing a value
// nearer to the seed; anybody can check that by hashing down. It is immutable.
type chain struct {
	kept [MaxSequence/chainStride + 1][32]byte // after 0, 512, 1,024 ... hashes
}

// newChain computes 2^18 hashes, some 15 ms.
func newChain(seed [seedSize]byte, epoch uint32) *chain {
	mac := hmac.New(sha256.New, seed[:])
	mac.Write(binary.BigEndian.AppendUint32([]byte("anchor/1 seq"), epoch))
	c := &chain{kept: [len(chain{}.kept)][32]byte{[32]byte(mac.Sum(nil))}}
	for i := range len(c.kept) - 1 {
		c.kept[i+1] = hashes(c.kept[i], chainStride)
	}
	return c
}

// proof returns the value that proves n, at most MaxSequence: the one after MaxSequence - n hashes.
func (c *chain) proof(n uint32) [32]byte {
	steps := MaxSequence - n
	return hashes(c.kept[steps/chainStride], steps%chainStride)
}

// hashes applies SHA-256 n times.
func hashes(v [32]byte, n uint32) [32]byte {
	for range n {
		v = sha256.Sum256(v[:])
	}
	return v
}

// VerifySequence reports whether proof proves sequence number n, given the value known to
// prove the lower number from: a record's Sequence for 0, or the last proof that verified. It
// computes n - from hashes, at most MaxSequence; one takes about 60 ns.
func VerifySequence(known [32]byte, from uint32, proof [32]byte, n uint32) bool {
	if n <= from || n > MaxSequence {
		return n == from && n <= MaxSequence && proof == known
	}
	return hashes(proof, n-from) == known
}
