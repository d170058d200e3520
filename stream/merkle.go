package stream

import (
	"crypto/sha256"

	"github.com/veil-net/anchor/internal/wire"
)

// node is a hash in a tree of message leaves.
type node = [wire.HashSize]byte

// join is the node above left and right.
func join(left, right *node) node {
	var b [1 + 2*wire.HashSize]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+wire.HashSize:], right[:])
	return sha256.Sum256(b[:])
}

// tree is a Merkle tree of up to 32 leaves, in the shape of RFC 9162, section 2.1, level by
// level: a last node without a partner goes up as it is. It holds the leaves at level 0.
type tree struct {
	levels [wire.MaxPath + 1][wire.MaxLeaves]node
	n      int
}

// build fills the levels above the n leaves and returns the root.
func (t *tree) build(n int) node {
	t.n = n
	level := 0
	for ; n > 1; n, level = (n+1)/2, level+1 {
		for i := 0; i < n; i += 2 {
			if i+1 < n {
				t.levels[level+1][i/2] = join(&t.levels[level][i], &t.levels[level][i+1])
			} else {
				t.levels[level+1][i/2] = t.levels[level][i]
			}
		}
	}
	return t.levels[level][0]
}

// appendPath writes the nodes beside the way of leaf index to the root behind dst.
func (t *tree) appendPath(dst []byte, index int) []byte {
	level := 0
	for n := t.n; n > 1; n, index, level = (n+1)/2, index/2, level+1 {
		if beside := index ^ 1; beside < n {
			dst = append(dst, t.levels[level][beside][:]...)
		}
	}
	return dst
}

// rootFrom is the root that leaf and path give for leaf index of n. path must hold
// wire.PathLen(n, index) nodes.
func rootFrom(leaf *node, n, index int, path []byte) node {
	at := *leaf
	for ; n > 1; n, index = (n+1)/2, index/2 {
		if index^1 >= n {
			continue
		}
		beside := node(path)
		path = path[wire.HashSize:]
		if index%2 == 0 {
			at = join(&at, &beside)
		} else {
			at = join(&beside, &at)
		}
	}
	return at
}
