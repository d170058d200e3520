package identity

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// codec is the one way in which this package writes and reads CBOR.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

// strict writes core deterministic encoding (RFC 8949 section 4.2.1) and reads nothing else.
// It is never written.
var strict = newCodec()

func newCodec() codec {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return codec{enc, dec}
}

func (c codec) marshal(v any) ([]byte, error) {
	b, err := c.enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("identity: encode: %w", err)
	}
	return b, nil
}

// unmarshal reads b into v, a pointer to a zero value, and demands that v encodes to b again:
// that rules out whatever the decoder would let pass, such as null for an empty string.
func (c codec) unmarshal(b []byte, v any) error {
	if err := c.dec.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	again, err := c.enc.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("%w: not in core deterministic encoding", ErrFormat)
	}
	return nil
}

// signed is the outer form of certificates, records and revocation lists.
type signed struct {
	_         struct{} `cbor:",toarray"`
	Body      []byte
	Signature []byte
}

// seal encodes body, signs it and returns the outer form.
func seal(k *privateKey, c Context, body any) ([]byte, error) {
	b, err := strict.marshal(body)
	if err != nil {
		return nil, err
	}
	sig, err := k.sign(c, b, true)
	if err != nil {
		return nil, err
	}
	return strict.marshal(signed{Body: b, Signature: sig})
}

// unseal reads the outer form of at most limit bytes and decodes its body. It verifies nothing.
func unseal(raw []byte, limit int, body any) (*signed, error) {
	if len(raw) > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d allowed", ErrFormat, len(raw), limit)
	}
	var s signed
	if err := strict.unmarshal(raw, &s); err != nil {
		return nil, err
	}
	if len(s.Signature) != SignatureSize {
		return nil, fmt.Errorf("%w: signature of %d bytes, want %d", ErrFormat, len(s.Signature), SignatureSize)
	}
	if err := strict.unmarshal(s.Body, body); err != nil {
		return nil, err
	}
	return &s, nil
}
