package identity

import (
	"errors"
	"fmt"
)

// Sentinels. Errors of this package wrap them with the particulars; use errors.Is.
var (
	// ErrFormat says that bytes are not what they should be: malformed, oversized, not in
	// deterministic encoding, a field out of range.
	ErrFormat = errors.New("malformed")
	// ErrSignature says that a signature does not verify.
	ErrSignature = errors.New("signature is not valid")
	// ErrForeignRealm says that a certificate or list is of another realm's authority.
	ErrForeignRealm = errors.New("of another realm")
	// ErrExpired says that a certificate's last day has passed.
	ErrExpired = errors.New("certificate expired")
	// ErrNotYetValid says that a certificate's first day has not come.
	ErrNotYetValid = errors.New("certificate is not valid before")
	// ErrRevoked says that the authority has revoked a certificate.
	ErrRevoked = errors.New("certificate is revoked")
	// ErrInUse says that another anchor's certificate holds a name or an address.
	ErrInUse = errors.New("in use")
	// ErrNotIssued says that the authority has no certificate in force for a name.
	ErrNotIssued = errors.New("no certificate in force")
	// ErrUnknownTag says that a tag names none of the session's epochs.
	ErrUnknownTag = errors.New("tag is not of this anchor's current or previous epoch")
)

// Errors about files.
var (
	// ErrPermissions says that others than its owner can read or change a file of secrets.
	ErrPermissions = errors.New("file can be read or changed by others")
	// ErrTruncated says that a file ends too early. It is an ErrFormat.
	ErrTruncated = fmt.Errorf("%w: truncated", ErrFormat)
	// ErrCorrupt says that a file's content does not match its checksum. It is an ErrFormat.
	ErrCorrupt = fmt.Errorf("%w: corrupt", ErrFormat)
	// ErrNotIdentity says that a file is something else. It is an ErrFormat.
	ErrNotIdentity = fmt.Errorf("%w: wrong kind of file", ErrFormat)
	// ErrVersion says that a file is of a format version that this program does not read. It is
	// an ErrFormat.
	ErrVersion = fmt.Errorf("%w: unknown version", ErrFormat)
	// ErrMismatch says that a private key and a certificate do not belong together.
	ErrMismatch = errors.New("private key does not belong to the certificate")
	// ErrChanged says that an authority's file was changed since it was read.
	ErrChanged = errors.New("changed by another program since it was opened")
)
