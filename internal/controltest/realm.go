package controltest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
)

// Realm issues identities for tests.
type Realm struct {
	Authority *identity.Authority
}

// NewRealm returns a fresh realm.
func NewRealm(t testing.TB) *Realm {
	a, err := identity.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	return &Realm{a}
}

// Issue issues an identity.
func (r *Realm) Issue(t testing.TB, o identity.IssueOptions) *identity.Identity {
	t.Helper()
	id, err := r.Authority.Issue(o)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Member is one start of an identity, with its Channel.
type Member struct {
	control.Channel
	Identity *identity.Identity
	Session  *identity.Session
	Verifier *identity.Verifier
	Stats    *stats.Set
	Queues   *queue.Registry

	mu    sync.Mutex
	inbox []control.Message
	more  chan struct{}
}

// New makes a member whose identity is named name. The Channel is not started, and closed when
// the test ends.
func (r *Realm) New(t testing.TB, f control.Fabric, name string) *Member {
	t.Helper()
	return NewMember(t, f, r.Issue(t, identity.IssueOptions{Name: name}), control.Options{})
}

// NewMember makes a member of an identity.
func NewMember(t testing.TB, f control.Fabric, id *identity.Identity, o control.Options) *Member {
	t.Helper()
	s, err := identity.NewSession(id, identity.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := &Member{Identity: id, Session: s, Verifier: identity.NewVerifier(id, nil), more: make(chan struct{}, 1)}
	m.Stats, m.Queues = new(stats.Set), new(queue.Registry)
	o.Stats, o.Queues = m.Stats, m.Queues
	m.Channel = control.New(f, s, m.Verifier, o)
	t.Cleanup(func() { m.Close() })
	return m
}

// Join makes a member and starts it.
func (r *Realm) Join(t testing.TB, f control.Fabric, name string) *Member {
	t.Helper()
	m := r.New(t, f, name)
	m.MustStart(t)
	return m
}

// MustStart starts the Channel and keeps what it receives for Receive.
func (m *Member) MustStart(t testing.TB) {
	t.Helper()
	if err := m.Start(Context(t), m.Handle); err != nil {
		t.Fatal(err)
	}
}

// Handle keeps a message for Receive.
func (m *Member) Handle(msg control.Message) {
	m.mu.Lock()
	m.inbox = append(m.inbox, msg)
	m.mu.Unlock()
	select {
	case m.more <- struct{}{}:
	default:
	}
}

// Received returns how many messages wait for Receive.
func (m *Member) Received() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.inbox)
}

// Receive waits for the next message.
func (m *Member) Receive(t testing.TB) control.Message {
	t.Helper()
	msg, ok := m.ReceiveWithin(20 * time.Second)
	if !ok {
		t.Fatalf("%v: no message within 20 s; drops: %v", m.Identity, m.Drops())
	}
	return msg
}

// ReceiveWithin waits for the next message, for so long.
func (m *Member) ReceiveWithin(d time.Duration) (control.Message, bool) {
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		m.mu.Lock()
		if len(m.inbox) > 0 {
			msg := m.inbox[0]
			m.inbox = m.inbox[1:]
			m.mu.Unlock()
			return msg, true
		}
		m.mu.Unlock()
		select {
		case <-m.more:
		case <-end.C:
			return control.Message{}, false
		}
	}
}

// ID is the member's anchor id.
func (m *Member) ID() identity.ID { return m.Identity.ID() }

// Drops returns the drop counters that are not 0.
func (m *Member) Drops() map[string]uint64 {
	out := make(map[string]uint64)
	for name, n := range m.Stats.Stage("control").Snapshot().Drops {
		if n > 0 {
			out[name] = n
		}
	}
	return out
}

// Note returns a counter of events.
func (m *Member) Note(name string) uint64 {
	return m.Stats.Stage("control").Snapshot().Notes[name]
}

// Find is Lookup that tries again while the Master is not ready: on a busy machine it may be slow.
func (m *Member) Find(t testing.TB, key control.Key, fresh bool) (*identity.Record, error) {
	ctx := Context(t)
	for {
		r, err := m.Lookup(ctx, key, fresh)
		if !errors.Is(err, control.ErrNotReady) || ctx.Err() != nil {
			return r, err
		}
	}
}

// MustSend sends, and fails the test if that is an error.
func (m *Member) MustSend(t testing.TB, to identity.ID, topic control.Topic, body []byte) {
	t.Helper()
	if err := m.Send(Context(t), to, topic, body); err != nil {
		t.Fatal(err)
	}
}

// SendUntil sends again and again until the receiver has got the body, as signalling does.
func (m *Member) SendUntil(t testing.TB, to *Member, topic control.Topic, body []byte) control.Message {
	t.Helper()
	ctx := Context(t)
	var err error
	for ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		err = m.Send(short, to.ID(), topic, body)
		cancel()
		if msg, ok := to.ReceiveWithin(100 * time.Millisecond); ok && string(msg.Body) == string(body) {
			return msg
		}
	}
	t.Fatalf("%v did not get the message: last error %v; sender %+v, receiver %+v", to.Identity, err, m.Stats.Snapshot(), to.Stats.Snapshot())
	return control.Message{}
}
