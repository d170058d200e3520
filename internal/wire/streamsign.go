package wire

import "fmt"

const (
	// MaxLeaves is the largest number of messages under one signature.
	MaxLeaves = 32
	// MaxPath is the longest path from a leaf to the root, in nodes.
	MaxPath = 5
	// MaxSignatureBlock is the length of the largest signature block in bytes.
	MaxSignatureBlock = 2 + MaxPath*HashSize + SignatureSize
)

// SignatureBlock is the signature over a message as part of a tree of 1 to MaxLeaves:
// n u8 ‖ index u8 ‖ path (32 each, leaf side first) ‖ signature (2,420).
type SignatureBlock struct {
	N, Index  uint8
	Path      []byte // PathLen(N, Index) nodes of HashSize bytes
	Signature []byte
}

// PathLen is the number of nodes beside the way from leaf index to the root of a tree of n
// leaves, in the shape of RFC 9162, section 2.1: pairs are joined, a last one without a
// partner goes up as it is.
func PathLen(n, index int) int {
	steps := 0
	for ; n > 1; n, index = (n+1)/2, index/2 {
		if index^1 < n {
			steps++
		}
	}
	return steps
}

// SignatureBlockSize is the length in bytes of the signature block of leaf index of n.
func SignatureBlockSize(n, index int) int {
	return 2 + PathLen(n, index)*HashSize + SignatureSize
}

// Append writes the block behind dst. Path and Signature must have their sizes.
func (s *SignatureBlock) Append(dst []byte) []byte {
	dst = append(dst, s.N, s.Index)
	dst = append(dst, s.Path...)
	return append(dst, s.Signature[:SignatureSize]...)
}

// ParseSignatureBlock reads a signature block that fills b. The result's slices are windows
// of b.
func ParseSignatureBlock(b []byte) (SignatureBlock, error) {
	if len(b) < 2 {
		return SignatureBlock{}, ErrShort
	}
	n, index := int(b[0]), int(b[1])
	if n < 1 || n > MaxLeaves || index >= n {
		return SignatureBlock{}, fmt.Errorf("signature block: leaf %d of %d: %w", index, n, ErrLayout)
	}
	if err := exact(b, SignatureBlockSize(n, index)); err != nil {
		return SignatureBlock{}, err
	}
	path, signature := cut(b[2:], PathLen(n, index)*HashSize)
	return SignatureBlock{N: b[0], Index: b[1], Path: path, Signature: signature}, nil
}
