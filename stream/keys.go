package stream

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"github.com/veil-net/anchor/internal/wire"
)

const (
	keySize   = 32 // AES-256, and HMAC-SHA-256
	nonceSize = 12 // AES-GCM
)

// secrets are the keys of an established stream.
type secrets struct {
	data, ack     [keySize]byte
	dataIV, ackIV [nonceSize]byte
	leaf          [keySize]byte
}

// schedule derives the keys of a stream from the two shared secrets and the hash of the
// handshake (HKDF, RFC 5869): the record key, then everything under its own label.
func schedule(h2 *[wire.HashSize]byte, s1, s2 []byte) (*secrets, error) {
	ikm := make([]byte, 0, len(s1)+len(s2))
	ikm = append(append(ikm, s1...), s2...)
	prk, err := hkdf.Extract(sha256.New, ikm, h2[:])
	if err != nil {
		return nil, fmt.Errorf("extract: %w", err)
	}
	k := new(secrets)
	for _, out := range []struct {
		label string
		to    []byte
	}{
		{"data key", k.data[:]}, {"data iv", k.dataIV[:]},
		{"ack key", k.ack[:]}, {"ack iv", k.ackIV[:]},
		{"leaf key", k.leaf[:]},
	} {
		b, err := hkdf.Expand(sha256.New, prk, "anchor/1 "+out.label, len(out.to))
		if err != nil {
			return nil, fmt.Errorf("expand %s: %w", out.label, err)
		}
		copy(out.to, b)
	}
	return k, nil
}

// boxAEAD is the cipher of a handshake's box: Expand(Extract(salt, s1), label).
func boxAEAD(salt, s1 []byte, label string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s1, salt, label, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive %s: %w", label, err)
	}
	return newAEAD(key)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// half is what sealing and opening one direction of a stream have in common.
type half struct {
	id      wire.StreamID // that the direction's messages bear
	aead    cipher.AEAD
	iv      [nonceSize]byte
	scratch sync.Pool
}

// scratch is memory that one message needs while it is worked on; it would escape to the heap
// for each message otherwise.
type scratch struct {
	nonce  [nonceSize]byte
	mac    hash.Hash // HMAC under the leaf key
	prefix [1 + len(wire.StreamID{}) + 8]byte
	leaf   [wire.HashSize]byte
	signed [1 + wire.HashSize + wire.SignatureSize]byte // n ‖ root ‖ signature
}

func (h *half) init(id wire.StreamID, key, iv, leaf []byte) error {
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	h.id, h.aead, h.iv = id, aead, [nonceSize]byte(iv)
	leaf = append([]byte(nil), leaf...)
	h.scratch.New = func() any {
		s := &scratch{mac: hmac.New(sha256.New, leaf)}
		copy(s.prefix[1:], id[:]) // behind 0x00, which sets a leaf apart from a node
		return s
	}
	return nil
}

// nonceFor writes IV xor (4 zero bytes ‖ number) to s.
func (h *half) nonceFor(s *scratch, number uint64) []byte {
	s.nonce = h.iv
	tail := s.nonce[nonceSize-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^number)
	return s.nonce[:]
}

// leafOf computes a message's leaf: HMAC(leaf key, 0x00 ‖ stream id ‖ number ‖ body before
// the signature block).
func leafOf(s *scratch, number uint64, body []byte) {
	binary.BigEndian.PutUint64(s.prefix[1+len(wire.StreamID{}):], number)
	s.mac.Reset()
	s.mac.Write(s.prefix[:])
	s.mac.Write(body)
	s.mac.Sum(s.leaf[:0])
}
