package control

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/veil-net/anchor/identity"
)

// Sentinels. They are found with errors.Is in the errors of a Channel.
var (
	// ErrUnknown says that a complete read of the directory holds no such record.
	ErrUnknown = errors.New("control: no such record in the directory")
	// ErrNotReady says that the Master cannot answer now: not connected, no stream, a time-out.
	// It never means that a record does not exist.
	ErrNotReady = errors.New("control: Master is not ready")
	// ErrTooLarge says that a message exceeds what the Master carries.
	ErrTooLarge = errors.New("control: message exceeds the Master's limit")
	// ErrIdentityInUse says that another live session runs with this identity.
	ErrIdentityInUse = errors.New("control: identity is in use by another live session")
	// ErrConfig says that trying again cannot help: a malformed URL, refused credentials, a bucket
	// of other settings, a message limit below the size of a record.
	ErrConfig = errors.New("control: configuration")
)

// A Topic says what a control message is about. Topics below 0x10 belong to package control
// itself (challenges, answers, nonce corrections).
type Topic uint8

// The topics that other packages receive.
const (
	TopicSignal     Topic = 0x10 // tether signalling: ask, offer, answer, candidate
	TopicData       Topic = 0x11 // a sealed message, envelope included (backup pipeline)
	TopicHint       Topic = 0x12 // broadcast: route hints about the sender and its own links
	TopicRevocation Topic = 0x13 // broadcast: a revocation list
)

// Message is an authenticated control message.
type Message struct {
	From      *identity.Certificate // verified, in date, not revoked
	Session   identity.Nonce        // the sender's session
	Topic     Topic
	Broadcast bool
	Body      []byte // the receiver may keep it
}

// Handler receives control messages. Calls for one sender come one at a time and in the order
// that the Master delivered; those for different senders come at the same time. It should not wait:
// while it does, that sender's messages queue up and the excess is dropped, but nobody else's.
type Handler func(Message)

// Key names a record in the directory. Exactly one field is set.
type Key struct {
	ID   identity.ID
	Tag  identity.Tag
	Name string
	Addr netip.Addr
}

// Event tells about the connection to the Master.
type Event struct {
	Connected bool
	// Fresh says that the Master's directory was found empty or just made: who is not in it may
	// be about to announce itself again.
	Fresh bool
	Err   error // why the connection was lost
}

// Channel is one anchor's connection to the Master: the directory, presence, and sealed and
// signed messages. The Master is untrusted: what a Channel returns has been verified, and
// what it sends the Master cannot read. All methods are safe for concurrent use.
type Channel interface {
	// Start connects, and announces the session's record. It returns once the Master has
	// taken the record, or with the context's cause wrapped together with the last fault, which
	// names the Master's URL. It tries again until ctx ends, but gives up at once for ErrConfig and if
	// the anchor's own certificate is not in force (identity.ErrRevoked, ErrExpired, ErrNotYetValid).
	// The handler, which may be nil, is called from then on. Start may be called once; after an error
	// nothing is left running.
	Start(ctx context.Context, h Handler) error

	// Announce publishes the session's record again because it has changed (a new epoch).
	// While the Master is away it returns ErrNotReady, and the newest record is announced on its
	// return all the same.
	Announce(ctx context.Context) error

	// Lookup returns the newest verified record under key, from the cache if it holds one that
	// still serves and fresh is false. It returns ErrUnknown after a complete read without a hit
	// if none is cached either, ErrNotReady if the Master cannot answer, and the errors of
	// identity.Verifier.Check for an anchor whose certificate is not in force. A record of a session
	// that the session rule of protocol section 7 does not admit yet is challenged first.
	Lookup(ctx context.Context, key Key, fresh bool) (*identity.Record, error)

	// Cached returns a record without asking the Master.
	Cached(key Key) (*identity.Record, bool)

	// Learn takes a record that came by another way (an open, a tether frame). It verifies
	// nothing: pass verified records only. It reports false for one that a newer record
	// or the session rule of protocol section 7 excludes.
	Learn(r *identity.Record) bool

	// Present reports whether the presence bucket shows the anchor's current session.
	Present(ctx context.Context, id identity.ID) (bool, error)

	// Send seals body to one anchor, signs it and publishes it. It looks the anchor's record
	// up if it is not cached, and returns Lookup's errors then; otherwise it waits at most for room in
	// the network's buffers. A nil error says that the message is on its way to the Master:
	// messages to an anchor that is away are lost, as are those addressed to a session that has ended
	// (the new session says so, and later messages are for it).
	Send(ctx context.Context, to identity.ID, topic Topic, body []byte) error

	// Broadcast publishes body to all members.
	Broadcast(ctx context.Context, topic Topic, body []byte) error

	// Revoke applies a verified revocation list, keeps it in the directory and broadcasts it. The
	// list is applied even if the Master is away (ErrNotReady); it is published on its return. A
	// list that is not newer than the one held changes nothing and is no error.
	Revoke(ctx context.Context, list *identity.RevocationList) error

	// Rekey takes a new generation of the realm secret: from now on messages and the directory are
	// sealed with it. The one before serves for identity.SecretGrace from when its end became known
	// by a revocation list. It is taken even if the Master is away (ErrNotReady). An older generation than
	// the current one is an error, the current one changes nothing.
	Rekey(ctx context.Context, generation uint32, secret [32]byte) error

	// MaxBody is the largest body that Send and Broadcast carry, in bytes; 0 before Start.
	MaxBody() int

	// Connected reports whether the Master is there now.
	Connected() bool

	// FreshSince reports when the directory in use was found empty or just made; the zero time
	// if it was found filled, or none was found yet.
	FreshSince() time.Time

	// Events yields changes of the connection until the Channel is closed. One reader; the oldest
	// is dropped when it does not keep up.
	Events() <-chan Event

	// Done is closed when the Channel has ended for good; Err tells why (ErrIdentityInUse,
	// identity.ErrRevoked or ErrExpired for the own certificate, the error of a failed Start, or
	// net.ErrClosed after Close). Err is nil before.
	Done() <-chan struct{}
	Err() error

	// Close disconnects and returns when every goroutine has ended, in under 3 s whatever the state
	// of the Master. It may be called in any state, more than once and from several goroutines, but
	// not from a Handler. It returns nil.
	Close() error
}
