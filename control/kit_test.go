package control

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
)

// recorder is a Conn that keeps what it is given, and answers from what it was told.
type recorder struct {
	mu        sync.Mutex
	published []published
	values    map[string][]byte // by $KV.BUCKET.KEY
	fail      error             // of every call, if not nil
	done      chan struct{}
}

type published struct {
	subject string
	msg     []byte
}

func newRecorder() *recorder {
	return &recorder{values: make(map[string][]byte), done: make(chan struct{})}
}

// last returns what was published last, a copy.
func (r *recorder) last() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.published[len(r.published)-1].msg)
}

func (r *recorder) Publish(_ context.Context, subject string, msg []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.published = append(r.published, published{subject, bytes.Clone(msg)})
	}
	return r.fail
}

func (r *recorder) Put(_ context.Context, b Bucket, key string, value []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.values[kvSubject(b, key)] = bytes.Clone(value)
	}
	return r.fail
}

func (r *recorder) Get(_ context.Context, b Bucket, key string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.values[kvSubject(b, key)]; ok || r.fail != nil {
		return bytes.Clone(v), r.fail
	}
	return nil, ErrNoKey
}

func (r *recorder) List(_ context.Context, b Bucket, prefix string, limit int) ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out [][]byte
	for _, k := range slices.Sorted(maps.Keys(r.values)) {
		if strings.HasPrefix(k, kvSubject(b, prefix)+".") && len(out) < limit {
			out = append(out, bytes.Clone(r.values[k]))
		}
	}
	return out, r.fail
}

func (r *recorder) Delete(_ context.Context, b Bucket, key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.values, kvSubject(b, key))
	return r.fail
}

func (r *recorder) Subscribe(string, func([]byte)) (func(), error) { return func() {}, r.fail }
func (r *recorder) Watch(context.Context, Bucket, string, func([]byte)) error {
	return r.fail
}
func (r *recorder) MaxPayload() int       { return 1 << 20 }
func (r *recorder) Age() time.Duration    { return 0 }
func (r *recorder) Dropped() uint64       { return 0 }
func (r *recorder) Done() <-chan struct{} { return r.done }
func (r *recorder) Err() error            { return nil }
func (r *recorder) Close() error          { return nil }

// realm makes channels for tests that look inside.
type realm struct {
	authority *identity.Authority
	clock     func() time.Time
}

func newRealm(t testing.TB) *realm {
	a, err := identity.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	return &realm{authority: a, clock: time.Now}
}

// identity issues an identity that is in date by the realm's clock.
func (r *realm) identity(t testing.TB, name string) *identity.Identity {
	t.Helper()
	id, err := r.authority.Issue(identity.IssueOptions{
		Name: name, NotBefore: r.clock().Add(-time.Hour), NotAfter: r.clock().Add(100 * 24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// inner is a Channel that is not started: it has a recorder for a Master.
type inner struct {
	*channel
	rec *recorder
	got chan Message
}

// session makes a channel of a new session of an identity.
func (r *realm) session(t testing.TB, id *identity.Identity) *inner {
	t.Helper()
	s, err := identity.NewSession(id, identity.SessionOptions{Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	c := New(nil, s, identity.NewVerifier(id, r.clock), Options{Seed: 1, Stats: new(stats.Set), Queues: new(queue.Registry)}).(*channel)
	in := &inner{channel: c, rec: newRecorder(), got: make(chan Message, 100)}
	c.handler = func(m Message) { in.got <- m }
	c.maxBody.Store(65535)
	c.link.Store(newLink(in.rec))
	t.Cleanup(func() { c.Close() })
	return in
}

func newLink(c Conn) *link {
	return &link{Conn: c, since: time.Now(), subs: make(map[uint32][]func()), watched: make(map[uint32]bool), changed: make(chan struct{}, 1)}
}

func (r *realm) new(t testing.TB, name string) *inner {
	t.Helper()
	return r.session(t, r.identity(t, name))
}

// offline takes the Master away.
func (c *inner) offline() { c.link.Store(nil) }

// to returns the bytes of a message to the session of b, with the sender's record or without.
func (c *inner) to(t testing.TB, b *inner, topic Topic, body []byte, attach bool) []byte {
	t.Helper()
	p, err := c.newPair(b.sess.Record())
	if err != nil {
		t.Fatal(err)
	}
	l := newLink(c.rec)
	if err := c.sendDirect(context.Background(), l, c.keys.Load().current, b.sess.Record(), p, topic, body, attach); err != nil {
		t.Fatal(err)
	}
	return c.rec.last()
}

// toAll returns the bytes of a message to all.
func (c *inner) toAll(t testing.TB, topic Topic, body []byte) []byte {
	t.Helper()
	if err := c.Broadcast(context.Background(), topic, body); err != nil {
		t.Fatal(err)
	}
	return c.rec.last()
}

// feed hands a copy of a message to the channel and returns when it has been dealt with.
func (c *inner) feed(msg []byte, all bool) {
	c.receive(bytes.Clone(msg), all)
	c.settle()
}

// settle returns when no message waits to be verified.
func (c *inner) settle() {
	for {
		c.lanes.mu.Lock()
		n := len(c.lanes.open)
		c.lanes.mu.Unlock()
		if n == 0 {
			return
		}
		runtime.Gosched()
	}
}

// drops returns the drop counters that are not 0, in words.
func (c *channel) drops() string {
	var out []string
	for name, n := range c.count.Snapshot().Drops {
		if n > 0 {
			out = append(out, fmt.Sprintf("%s %d", name, n))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
