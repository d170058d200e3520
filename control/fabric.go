package control

import (
	"context"
	"errors"
	"time"
)

// A Bucket is one of the two sets of keys and values that a Fabric keeps.
type Bucket string

const (
	// BucketRecords is the directory: written on change, kept for ever.
	BucketRecords Bucket = "records"
	// BucketPresence says who is there: entries end PresenceTTL after they were written.
	BucketPresence Bucket = "presence"
)

// PresenceTTL is how long an entry in BucketPresence lasts.
const PresenceTTL = 90 * time.Second

// ErrNoKey is what Conn.Get returns (wrapped) when a bucket holds no such key. Any other error of a Conn
// says that the fabric could not answer.
var ErrNoKey = errors.New("control: no such key")

// Fabric is a message fabric that an anchor can connect to: NATS, Memory, or your own. It need
// not be trusted. It is safe for concurrent use and may serve several Channels, one Conn each.
type Fabric interface {
	// Connect makes one attempt to connect, and prepares the buckets. It returns when ctx ends at the
	// latest. An error names the fabric's URL and the cause, and wraps ErrConfig if another attempt
	// cannot help.
	Connect(ctx context.Context) (Conn, error)

	// String names the fabric for people, without secrets: its URL.
	String() string
}

// Conn is one connection to a Fabric. It ends once, by Close or because the fabric is gone; a
// Channel then makes another. All methods are safe for concurrent use, and return when the Conn
// ends at the latest. Subjects are words of A-Z a-z 0-9 - and _ joined by dots.
type Conn interface {
	// Publish sends msg to all who subscribed to subject at this moment, the sender included. It
	// waits for room in the network's buffers, as long as ctx allows, and keeps no reference to msg. A
	// nil error does not mean that anybody got it.
	Publish(ctx context.Context, subject string, msg []byte) error

	// Subscribe has handle called for each message to subject, whose last word may be * for any
	// one word; one at a time and in order. handle owns msg and must not wait. It is not called any more
	// after cancel has returned, the call under way excepted.
	Subscribe(subject string, handle func(msg []byte)) (cancel func(), err error)

	// Put writes a value and returns once the fabric has it. It keeps no reference to value.
	Put(ctx context.Context, b Bucket, key string, value []byte) error

	// Get reads a value; the caller may keep it. It returns ErrNoKey if there is none.
	Get(ctx context.Context, b Bucket, key string) ([]byte, error)

	// Delete removes a key. It is no error if there is none.
	Delete(ctx context.Context, b Bucket, key string) error

	// List reads the values whose keys are prefix, a dot and one word more, and stops after limit. A
	// nil error says that there were no others.
	List(ctx context.Context, b Bucket, prefix string, limit int) ([][]byte, error)

	// Watch has changed called with the value under key, if there is one, and with each new
	// value until the Conn ends; one at a time, in order. changed must not wait.
	Watch(ctx context.Context, b Bucket, key string, changed func(value []byte)) error

	// MaxPayload is the longest message and the longest value in bytes.
	MaxPayload() int

	// Age is how long ago, when this Conn was made, the directory was created; 0 if it was empty.
	Age() time.Duration

	// Dropped counts the messages to this Conn's subscriptions that were lost because their
	// handlers did not keep up.
	Dropped() uint64

	// Done is closed when the Conn has ended. Err tells why; it is nil before.
	Done() <-chan struct{}
	Err() error

	// Close hands over what was published, for a quarter of a second at most, and ends the Conn.
	// It returns nil, and when nothing of the Conn runs any more.
	Close() error
}
