// Package identity says who an anchor is and proves it: realm authorities, certificates, the
// records that anchors publish, revocation lists, and the signatures and key encapsulation
// that everything else is built on.
//
// # Trust
//
// A realm is one trust domain. Its [Authority] is an ML-DSA-44 key that works offline: it
// issues an [Identity] (private key, certificate, authority key, realm secret) to each anchor
// and revokes by a signed [RevocationList]. There is no server to trust. A [Certificate] is the
// only source of truth for an anchor's name, addresses and groups.
//
// # At run time
//
// A [Session] is one start of an identity. It publishes a [Record]: the certificate, and for
// the current and the previous epoch (day) a locator, whose hash is the tag that messages
// bear, and an X-Wing key. A [Verifier] checks what others show against the realm's authority.
//
// # Encoding
//
// Certificates, records and lists are CBOR arrays [body, signature] of byte strings. The
// signature is over the body as received, which must be in core deterministic encoding (RFC
// 8949 section 4.2.1), so that one content has one form. Maps have integer keys; an unknown
// or repeated key, a tag, an indefinite length and trailing bytes are rejected.
//
// Signatures are ML-DSA-44 (FIPS 204) with a context string for each purpose; keys of epochs
// are X-Wing (draft-connolly-cfrg-xwing-kem).
package identity
