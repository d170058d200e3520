package stream

import "errors"

// Errors of the machines. Each names one cause, so that whoever drives them counts by cause;
// errors.Is finds them in what the machines return. Errors of package wire are in the chain
// beside ErrMalformed where a layout is wrong.
var (
	// ErrMalformed says that a message or its plaintext has no valid layout.
	ErrMalformed = errors.New("stream: malformed message")
	// ErrKind says that a message's kind has no place where it arrived.
	ErrKind = errors.New("stream: kind of message out of place")
	// ErrTag says that a handshake is not for this anchor, in this epoch or the one before.
	ErrTag = errors.New("stream: tag is not ours")
	// ErrStreamID says that a stream id is not the one that the handshake gives, or that other
	// bytes came under a known one.
	ErrStreamID = errors.New("stream: stream id does not match")
	// ErrSeal says that the authenticated decryption of a message failed.
	ErrSeal = errors.New("stream: seal does not open")
	// ErrSignature says that a signature does not verify.
	ErrSignature = errors.New("stream: signature does not verify")
	// ErrReplayed says that a message is older than the replay window, or was given up by its
	// sender.
	ErrReplayed = errors.New("stream: message is older than the window")
	// ErrDuplicate says that a message arrived before, which is no loss.
	ErrDuplicate = errors.New("stream: message is a duplicate")
	// ErrAccepted says that an accept came for a handshake that has had its accept.
	ErrAccepted = errors.New("stream: handshake is accepted already")
	// ErrLimit says that a stream reached a hard limit of age or number of messages.
	ErrLimit = errors.New("stream: hard limit of the keys is reached")
	// ErrWindow says that too many messages are outstanding to take another number.
	ErrWindow = errors.New("stream: too many messages outstanding")
	// ErrEnded says that a stream sent its close, or failed after it took a number.
	ErrEnded = errors.New("stream: stream has ended")
	// ErrEmpty says that a batch holds no packet.
	ErrEmpty = errors.New("stream: batch is empty")
)
