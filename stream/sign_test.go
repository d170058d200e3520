package stream

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

// checkBlock verifies a signature block for leaf and returns how many share the signature.
func checkBlock(t *testing.T, leaf node, block []byte) int {
	t.Helper()
	b, err := wire.ParseSignatureBlock(block)
	if err != nil {
		t.Error(err)
		return 0
	}
	root := rootFrom(&leaf, int(b.N), int(b.Index), b.Path)
	if !fakeVerify(append([]byte{b.N}, root[:]...), b.Signature) {
		t.Errorf("leaf %d of %d does not verify", b.Index, b.N)
	}
	return int(b.N)
}

func TestSignerAlone(t *testing.T) {
	s := NewSigner(fakeSign)
	for i := range 10 {
		leaf := sha256.Sum256([]byte{byte(i)})
		block, err := s.Sign(leaf, []byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(block, []byte("before")) {
			t.Fatal("does not append")
		}
		if n := checkBlock(t, leaf, block[len("before"):]); n != 1 {
			t.Errorf("a lone caller shares its signature with %d", n-1)
		}
	}
}

// Callers that come during a signature share the next ones, 32 at most; nobody waits for
// company.
func TestSignerGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers = 1 + 32 + 32 + 5
		calls := 0 // one at a time, or the race detector speaks
		s := NewSigner(func(m []byte) ([]byte, error) {
			calls++
			time.Sleep(time.Millisecond)
			return fakeSign(m)
		})
		var wg sync.WaitGroup
		var mu sync.Mutex
		shared := map[int]int{}
		began := time.Now()
		for i := range callers {
			wg.Go(func() {
				leaf := sha256.Sum256([]byte{byte(i)})
				block, err := s.Sign(leaf, nil)
				if err != nil {
					t.Error(err)
					return
				}
				n := checkBlock(t, leaf, block)
				mu.Lock()
				shared[n]++
				mu.Unlock()
			})
			synctest.Wait() // the first signs when the others come
		}
		wg.Wait()
		if shared[1] != 1 || shared[32] != 64 || shared[5] != 5 || calls != 4 {
			t.Errorf("callers by size of their tree: %v, in %d signatures", shared, calls)
		}
		if took := time.Since(began); took != 4*time.Millisecond {
			t.Errorf("took %v, want 4 ms", took)
		}
	})
}

// With one processor, callers that are ready to run share a signature all the same.
func TestSignerGathersOnOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	calls := 0
	s := NewSigner(func(m []byte) ([]byte, error) { calls++; return fakeSign(m) })
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			leaf := sha256.Sum256([]byte{byte(i)})
			block, err := s.Sign(leaf, nil)
			if err != nil {
				t.Error(err)
				return
			}
			checkBlock(t, leaf, block)
		})
	}
	wg.Wait()
	if calls > 16 {
		t.Errorf("%d signatures for 32 callers", calls)
	}
}

// A failure reaches all who share the signature, and the next callers are served again.
func TestSignerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fault := errors.New("no key")
		fail := true
		s := NewSigner(func(m []byte) ([]byte, error) {
			time.Sleep(time.Millisecond)
			if fail {
				return nil, fault
			}
			return fakeSign(m)
		})
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if _, err := s.Sign(node{byte(i)}, nil); !errors.Is(err, fault) {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		fail = false
		block, err := s.Sign(node{1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkBlock(t, node{1}, block)
	})
}

func TestSignerRefusesWrongSize(t *testing.T) {
	s := NewSigner(func([]byte) ([]byte, error) { return make([]byte, 5), nil })
	_, err := s.Sign(node{}, nil)
	wantError(t, "signature of 5 bytes", err, ErrMalformed)
}

// Many callers in a row, from many goroutines, under the race detector.
func TestSignerBusy(t *testing.T) {
	s := NewSigner(fakeSign)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 200 {
				leaf := sha256.Sum256([]byte{byte(g), byte(i)})
				block, err := s.Sign(leaf, nil)
				if err != nil {
					t.Error(err)
					return
				}
				checkBlock(t, leaf, block)
			}
		})
	}
	wg.Wait()
}
