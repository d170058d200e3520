package wire

// Suite is the one cryptographic suite of protocol version 1: X-Wing, ML-DSA-44,
// AES-256-GCM and HKDF-SHA-256.
const Suite = 1

// Sizes in bytes of what the suite puts into messages.
const (
	// HashSize is the size of a SHA-256 hash, and so of a node of a signature's tree.
	HashSize = 32
	// SealOverhead is the size of an AES-GCM tag, behind everything sealed.
	SealOverhead = 16
	// CiphertextSize is the size of an X-Wing ciphertext.
	CiphertextSize = 1120
	// KEMPublicSize is the size of an X-Wing public key.
	KEMPublicSize = 1216
	// SignatureSize is the size of an ML-DSA-44 signature (FIPS 204, table 2).
	SignatureSize = 2420
	// AcceptNonceSize is the size of the random nonce of an accept.
	AcceptNonceSize = 12
)
