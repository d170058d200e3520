package stream

import (
	"crypto/sha256"
	"testing"

	"github.com/veil-net/anchor/internal/wire"
)

// modelRoot is MTH of RFC 9162, section 2.1.1, over leaves that are hashes already.
func modelRoot(leaves []node) node {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	l, r := modelRoot(leaves[:k]), modelRoot(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

// modelPath is PATH of RFC 9162, section 2.1.3.1.
func modelPath(m int, leaves []node) []byte {
	if len(leaves) == 1 {
		return nil
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	if m < k {
		r := modelRoot(leaves[k:])
		return append(modelPath(m, leaves[:k]), r[:]...)
	}
	l := modelRoot(leaves[:k])
	return append(modelPath(m-k, leaves[k:]), l[:]...)
}

func TestTreeAgainstRFC9162(t *testing.T) {
	leaves := make([]node, wire.MaxLeaves)
	for i := range leaves {
		leaves[i] = sha256.Sum256([]byte{byte(i)})
	}
	for n := 1; n <= wire.MaxLeaves; n++ {
		var tr tree
		copy(tr.levels[0][:], leaves[:n])
		root := tr.build(n)
		if want := modelRoot(leaves[:n]); root != want {
			t.Fatalf("root of %d: %x, want %x", n, root, want)
		}
		for i := range n {
			path := tr.appendPath(nil, i)
			if want := modelPath(i, leaves[:n]); string(path) != string(want) {
				t.Errorf("path of %d in %d differs", i, n)
			}
			if got := rootFrom(&leaves[i], n, i, path); got != root {
				t.Errorf("leaf %d of %d gives another root", i, n)
			}
			for other := range n {
				if other != i && wire.PathLen(n, other) == wire.PathLen(n, i) && rootFrom(&leaves[i], n, other, path) == root {
					t.Errorf("leaf %d of %d passes for leaf %d", i, n, other)
				}
			}
			for at := range path {
				path[at] ^= 1
				if rootFrom(&leaves[i], n, i, path) == root {
					t.Errorf("leaf %d of %d: a changed path gives the root", i, n)
				}
				path[at] ^= 1
			}
		}
	}
}
