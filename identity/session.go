package identity

import (
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudflare/circl/kem/xwing"
)

// SessionOptions are for NewSession. The zero value is usable.
type SessionOptions struct {
	// MTU is the largest inner packet in bytes that this anchor takes, MinMTU to MaxMTU; 0
	// means MinMTU.
	MTU int
	// Clock tells the time for the first epoch; nil means time.Now. Later ones come with Advance.
	Clock func() time.Time
	// MinEpoch is the highest epoch that the identity is known to have used, 0 if unknown.
	MinEpoch uint32
	// MinCounter is the highest record counter that the identity is known to have used, 0 if
	// unknown.
	MinCounter uint64
}

// Session is one start of an identity: its nonce, its record, and the keys of its current and
// previous epoch. It is safe for concurrent use; methods that change the record wait for each other, the
// others never wait. Printing or logging one shows no secret.
type Session struct {
	id    *Identity
	nonce Nonce
	mtu   uint16

	mu sync.Mutex // held to replace state
	// previousUsed says that the previous epoch was once the current one of a record; at the
	// start it is just the day before.
	previousUsed bool

	state atomic.Pointer[sessionState]
}

// sessionState is what a session shows and holds at one moment. It is immutable.
type sessionState struct {
	record            *Record
	current, previous *epochSecrets
}

// epochSecrets is what an anchor needs of one epoch.
type epochSecrets struct {
	EpochKey
	kem *xwing.PrivateKey
	seq *chain // nil for an epoch that this session has not had as its current one
}

// NewSession draws a session nonce and makes the first record. It takes about 20 ms, for the
// hash chain of the epoch.
func NewSession(id *Identity, o SessionOptions) (*Session, error) {
	if o.MTU == 0 {
		o.MTU = MinMTU
	}
	if o.MTU < MinMTU || o.MTU > MaxMTU {
		return nil, fmt.Errorf("identity: new session: MTU %d, want %d to %d", o.MTU, MinMTU, MaxMTU)
	}
	if o.MinCounter >= maxCounter {
		return nil, fmt.Errorf("identity: new session: counter %d is too high", o.MinCounter)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	now := o.Clock()
	s := &Session{id: id, mtu: uint16(o.MTU)}
	rand.Read(s.nonce[:])
	epoch := max(epochAt(now), o.MinEpoch)
	current, err := id.newEpoch(epoch, true)
	if err != nil {
		return nil, fmt.Errorf("identity: new session: %w", err)
	}
	previous, err := id.newEpoch(epoch-1, false)
	if err != nil {
		return nil, fmt.Errorf("identity: new session: %w", err)
	}
	// Counting from the clock, a new session's records are newer than an earlier one's even
	// if nobody is there to Observe one from. A wild clock must not use the counter up.
	counter := max(o.MinCounter+1, uint64(min(max(now.UnixMilli(), 0), 1<<48)))
	var list uint64
	if id.revocations != nil {
		list = id.revocations.Number
	}
	if err := s.replace(current, previous, counter, list); err != nil {
		return nil, fmt.Errorf("identity: new session: %w", err)
	}
	return s, nil
}

// epochAt returns the unix day, at least 1 so that there is an epoch before it even on a
// machine whose clock starts in 1970.
func epochAt(t time.Time) uint32 {
	return uint32(min(max(t.Unix()/86400, 1), 1<<32-1))
}

// newEpoch derives the keys of an epoch, and its hash chain if withChain is set.
func (i *Identity) newEpoch(epoch uint32, withChain bool) (*epochSecrets, error) {
	kem, public, err := epochKEM(i.key.seed, epoch)
	if err != nil {
		return nil, err
	}
	locator, err := i.key.sign(ContextLocator, locatorMessage(i.Realm(), i.ID(), epoch), false)
	if err != nil {
		return nil, err
	}
	e := &epochSecrets{
		EpochKey: EpochKey{Epoch: epoch, Locator: locator, KEM: public, Tag: TagOf(i.ID(), locator)},
		kem:      kem,
	}
	if withChain {
		e.seq = newChain(i.key.seed, epoch)
	}
	return e, nil
}

// replace signs a new record and makes it the current one. The caller holds mu, or is NewSession.
func (s *Session) replace(current, previous *epochSecrets, counter, list uint64) error {
	if counter > maxCounter {
		return fmt.Errorf("counter %d: %w", counter, ErrFormat) // others would refuse the record
	}
	r := &Record{
		Certificate: s.id.certificate, Current: current.EpochKey, Previous: previous.EpochKey,
		Session: s.nonce, Counter: counter, MTU: s.mtu,
		Sequence: current.seq.proof(0), ListNumber: list,
	}
	if err := sealRecord(r, s.id.key); err != nil {
		return err
	}
	s.state.Store(&sessionState{record: r, current: current, previous: previous})
	return nil
}

// Identity returns the identity.
func (s *Session) Identity() *Identity { return s.id }

// Nonce returns the session nonce.
func (s *Session) Nonce() Nonce { return s.nonce }

// Record returns the session's record as it is now, signed.
func (s *Session) Record() *Record { return s.state.Load().record }

// Advance begins a new epoch if now is on a later day than the current one, and reports whether the
// record has changed. The epoch that was current becomes the previous one. Call it at least
// once an hour. A change takes about 20 ms.
func (s *Session) Advance(now time.Time) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	epoch := epochAt(now)
	if epoch <= st.current.Epoch {
		return false, nil
	}
	next, err := s.id.newEpoch(epoch, true)
	if err == nil {
		err = s.replace(next, st.current, st.record.Counter+1, st.record.ListNumber)
	}
	if err != nil {
		return false, fmt.Errorf("identity: advance to epoch %d: %w", epoch, err)
	}
	s.previousUsed = true
	return true, nil
}

// Observe takes a verified record of this same anchor that others hold, left by an earlier session,
// and raises epoch and counter so that the session's record replaces it. It reports whether the record
// has changed. Records of other anchors and of this session change nothing.
func (s *Session) Observe(own *Record) (changed bool, err error) {
	if own.ID() != s.id.ID() || own.Session == s.nonce {
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	current, previous, err := s.epochsAfter(st, own.Current.Epoch)
	if err != nil {
		return false, fmt.Errorf("identity: observe epoch %d: %w", own.Current.Epoch, err)
	}
	s.previousUsed = s.previousUsed || previous.Epoch == own.Current.Epoch || current != st.current
	if current == st.current && previous == st.previous && st.record.NewerThan(own) {
		return false, nil
	}
	if err := s.replace(current, previous, max(st.record.Counter, own.Counter)+1, st.record.ListNumber); err != nil {
		return false, fmt.Errorf("identity: observe: %w", err)
	}
	return true, nil
}

// epochsAfter returns what the session's epochs become once another session is known to have used
// epoch e. An older one than the current replaces a previous one that nobody has ever seen in use:
// after days of absence it is what others still hold. The caller holds mu.
func (s *Session) epochsAfter(st *sessionState, e uint32) (current, previous *epochSecrets, err error) {
	current, previous = st.current, st.previous
	switch {
	case e > current.Epoch:
		previous = current
		current, err = s.id.newEpoch(e, true)
	case e < current.Epoch && (e > previous.Epoch || e < previous.Epoch && !s.previousUsed):
		previous, err = s.id.newEpoch(e, false)
	}
	return current, previous, err
}

// SetListNumber states in the record that the anchor holds a revocation list of that number. It
// reports whether the record has changed; a lower number changes nothing.
func (s *Session) SetListNumber(n uint64) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	if n <= st.record.ListNumber {
		return false, nil
	}
	if err := s.replace(st.current, st.previous, st.record.Counter+1, n); err != nil {
		return false, fmt.Errorf("identity: list number: %w", err)
	}
	return true, nil
}

// epoch returns the secrets of the epoch that tag names, nil if there are none.
func (st *sessionState) epoch(tag Tag) *epochSecrets {
	switch tag {
	case st.current.Tag:
		return st.current
	case st.previous.Tag:
		return st.previous
	}
	return nil
}

// IsLocal reports whether tag names this anchor, in its current or previous epoch. It takes no lock and
// allocates nothing.
func (s *Session) IsLocal(tag Tag) bool { return s.state.Load().epoch(tag) != nil }

// Decapsulate returns the shared secret in ct, which was sealed to the epoch key that tag names.
// It returns ErrUnknownTag or, for a ciphertext that is not CiphertextSize long, ErrFormat. A ciphertext
// for another key yields an unrelated secret, so that what it sealed does not open.
func (s *Session) Decapsulate(tag Tag, ct []byte) (shared []byte, err error) {
	e := s.state.Load().epoch(tag)
	if e == nil {
		return nil, fmt.Errorf("identity: decapsulate: %w", ErrUnknownTag)
	}
	return decapsulate(e.kem, ct)
}

// SequenceProof returns the value that proves sequence number n, at most MaxSequence, of the
// epoch that tag names; see VerifySequence. It takes up to 30 us. It returns ErrUnknownTag for
// an epoch that was not current in this session.
func (s *Session) SequenceProof(tag Tag, n uint32) ([32]byte, error) {
	e := s.state.Load().epoch(tag)
	if e == nil || e.seq == nil {
		return [32]byte{}, fmt.Errorf("identity: sequence proof: %w", ErrUnknownTag)
	}
	if n > MaxSequence {
		return [32]byte{}, fmt.Errorf("identity: sequence proof: number %d, at most %d", n, MaxSequence)
	}
	return e.seq.proof(n), nil
}

// String returns the identity's name and the session's first characters.
func (s *Session) String() string {
	return fmt.Sprintf("session %x of %v", s.nonce[:4], s.id)
}

// Format prints String for every verb: the fields hold secrets.
func (s *Session) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }
