package stream

import (
	"sync"
	"testing"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// benchStream returns both ends of a stream with real signatures.
func benchStream(b *testing.B) (alice, bob *Established) {
	r := sharedRealm(b)
	i, open := r.alice.initiate(b, r.bob)
	accept, bob := r.bob.answer(b, open, 1<<40)
	alice, err := i.Accept(accept, epoch0)
	if err != nil {
		b.Fatal(err)
	}
	return alice, bob
}

// full returns a batch of 37,500 bytes.
func full(packet []byte) *Batch {
	batch := NewBatch(0)
	for batch.Add(packet) && batch.Count() < wire.MaxPackets {
	}
	return batch
}

// without turns signatures off: what is left is ours.
func without(e *Established) {
	signature := make([]byte, wire.SignatureSize)
	e.Opener.verify = func(_, _ []byte) bool { return true }
	if e.Sealer.signer != nil {
		e.Sealer.signer = NewSigner(func([]byte) ([]byte, error) { return signature, nil })
	}
}

func benchSeal(b *testing.B, alice *Established) {
	packet := pattern(1500, 1)
	b.SetBytes(37500)
	b.ReportAllocs()
	for b.Loop() {
		alice.Sealer.counter.Store(0) // past the hard limits
		m, _, err := alice.Sealer.Seal(full(packet), 0, epoch0)
		if err != nil {
			b.Fatal(err)
		}
		m.Release()
	}
}

func BenchmarkSeal(b *testing.B) {
	alice, _ := benchStream(b)
	benchSeal(b, alice)
}

func BenchmarkSealWithoutSignature(b *testing.B) {
	alice, _ := benchStream(b)
	without(alice)
	benchSeal(b, alice)
}

func benchOpen(b *testing.B, alice, bob *Established) {
	m, _, err := alice.Sealer.Seal(full(pattern(1500, 1)), 0, epoch0)
	if err != nil {
		b.Fatal(err)
	}
	sealed := bytesOf(m)
	b.SetBytes(37500)
	b.ReportAllocs()
	for b.Loop() {
		bob.Opener.window, bob.Opener.roots = replay{}, rootCache{}
		m := bufOf(sealed)
		if _, err := bob.Opener.Open(m, epoch0); err != nil {
			b.Fatal(err)
		}
		m.Release()
	}
}

func BenchmarkOpen(b *testing.B) {
	alice, bob := benchStream(b)
	benchOpen(b, alice, bob)
}

func BenchmarkOpenWithoutSignature(b *testing.B) {
	alice, bob := benchStream(b)
	without(alice)
	without(bob)
	benchOpen(b, alice, bob)
}

func BenchmarkSignAlone(b *testing.B) {
	s := sharedRealm(b).alice.signer()
	dst := make([]byte, 0, wire.MaxSignatureBlock)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(node{1}, dst); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSign32 signs 32 messages at once; divide by 32 for the price of one.
func BenchmarkSign32(b *testing.B) {
	s := sharedRealm(b).alice.signer()
	b.ReportAllocs()
	for b.Loop() {
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				if _, err := s.Sign(node{byte(i)}, nil); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func BenchmarkHandshake(b *testing.B) {
	r := sharedRealm(b)
	b.ReportAllocs()
	for b.Loop() {
		i, open := r.alice.initiate(b, r.bob)
		accept, _ := r.bob.answer(b, open, 1)
		if _, err := i.Accept(accept, epoch0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenBox1 is what an open of a flood costs.
func BenchmarkOpenBox1(b *testing.B) {
	r := sharedRealm(b)
	_, open := r.alice.initiate(b, r.bob)
	open[len(open)-1] ^= 1
	b.ReportAllocs()
	for b.Loop() {
		if _, err := OpenBox1(r.bob.session, open); err == nil {
			b.Fatal("opened")
		}
	}
}

func BenchmarkVerifyBatchSignature(b *testing.B) {
	r := sharedRealm(b)
	message := pattern(33, 1)
	signature, err := r.alice.identity.Sign(identity.ContextBatch, message)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !r.alice.identity.Certificate().Verify(identity.ContextBatch, message, signature) {
			b.Fatal("does not verify")
		}
	}
}
