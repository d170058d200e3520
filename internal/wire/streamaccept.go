package wire

import "encoding/binary"

const (
	acceptBoxSize  = CiphertextSize + 8 + SignatureSize
	acceptBodySize = AcceptNonceSize + acceptBoxSize + SealOverhead
)

// AcceptBody is the body of an accept: nonce (12, random) ‖ box.
type AcceptBody struct {
	Nonce [AcceptNonceSize]byte
	Box   []byte // a sealed AcceptBox
}

// AcceptBodySize is the length of the body of every accept in bytes.
const AcceptBodySize = acceptBodySize

// Append writes the body behind dst. Box must have its size.
func (a *AcceptBody) Append(dst []byte) []byte {
	dst = append(dst, a.Nonce[:]...)
	return append(dst, a.Box[:acceptBoxSize+SealOverhead]...)
}

// ParseAcceptBody reads the body of an accept. Box is a window of b.
func ParseAcceptBody(b []byte) (AcceptBody, error) {
	if err := exact(b, acceptBodySize); err != nil {
		return AcceptBody{}, err
	}
	return AcceptBody{Nonce: [AcceptNonceSize]byte(b), Box: b[AcceptNonceSize:len(b):len(b)]}, nil
}

// AcceptBox is the plaintext of an accept's box: ciphertext (1,120) ‖ grant u64 ‖
// signature (2,420).
type AcceptBox struct {
	Ciphertext []byte // X-Wing, to the initiator's ephemeral key
	Grant      uint64 // message bytes that the initiator may send, in all
	Signature  []byte
}

// AcceptBoxSize is the length of the plaintext of every accept's box in bytes.
const AcceptBoxSize = acceptBoxSize

// Append writes the plaintext behind dst. Ciphertext and Signature must have their sizes.
func (a *AcceptBox) Append(dst []byte) []byte {
	dst = append(dst, a.Ciphertext[:CiphertextSize]...)
	dst = binary.BigEndian.AppendUint64(dst, a.Grant)
	return append(dst, a.Signature[:SignatureSize]...)
}

// ParseAcceptBox reads the plaintext of an accept's box. The result's slices are windows of b.
func ParseAcceptBox(b []byte) (AcceptBox, error) {
	if err := exact(b, acceptBoxSize); err != nil {
		return AcceptBox{}, err
	}
	var a AcceptBox
	a.Ciphertext, b = cut(b, CiphertextSize)
	a.Grant = binary.BigEndian.Uint64(b)
	a.Signature = b[8:]
	return a, nil
}

// exact says what is wrong with b if it is not n bytes long.
func exact(b []byte, n int) error {
	switch {
	case len(b) < n:
		return ErrShort
	case len(b) > n:
		return ErrLayout
	}
	return nil
}
