package control

import (
	"crypto/cipher"
	"crypto/rand"
	"net/netip"
	"sync"
	"time"

	"github.com/veil-net/anchor/identity"
)

const (
	// silence is how long nothing authentic must have come from a session for a newer one to be
	// admitted without a challenge.
	silence = 10 * time.Second
	// maxPeers is how many anchors' sessions and windows are remembered, maxRecords how many of
	// their records, and maxCandidates how many sessions may be under challenge at a time.
	maxPeers      = 1 << 16
	maxRecords    = 1024
	maxCandidates = 256
	// maxHeld is how many messages of a session under challenge are held.
	maxHeld = 8
	// maxPairs is how many keys of one sender are kept: of its sessions and of our epochs.
	maxPairs = 4
)

// A verdict says what became of a record that was offered.
type verdict uint8

const (
	refused  verdict = iota // the session is not believed
	outdated                // the session is admitted, and a newer record of it is known
	admitted                // the record is now the one known
	pending                 // the session has to answer a challenge
)

// peerTable is what is known of other anchors: the cache of records, and which session of each is
// admitted. It is safe for concurrent use.
type peerTable struct {
	mu         sync.Mutex
	peers      *lru[identity.ID, *peer]
	records    *lru[identity.ID, struct{}] // who has a record
	tags       map[identity.Tag]identity.ID
	names      map[string]identity.ID
	addrs      map[netip.Addr]identity.ID
	candidates int
}

// peer is what is known of one other anchor. Its fields are under the table's lock.
type peer struct {
	record  *identity.Record // the newest admitted; nil if it had to make room
	session identity.Nonce   // admitted; zero if none
	epoch   uint32           // of the newest admitted record
	counter uint64           // likewise
	stale   bool             // another session is under challenge: look the record up again

	heard      time.Time // when the last authentic message of session came
	generation uint32    // of the realm secret that it, or else the record, was found in
	reads      bool      // generation is known
	window     window    // of messages to this anchor
	lastAll    uint64    // the highest counter of messages to all
	anyAll     bool

	out     *pair
	in      *lru[[32]byte, cipher.AEAD] // by hash of session and ciphertext
	next    *candidate                  // nil if no session is under challenge
	answers *limiter
}

// candidate is a session under challenge.
type candidate struct {
	record *identity.Record
	secret [32]byte
	held   []*inbound    // under the table's lock
	done   chan struct{} // closed when it is admitted or given up
}

func newPeerTable() *peerTable {
	return &peerTable{
		peers:   newLRU[identity.ID, *peer](maxPeers),
		records: newLRU[identity.ID, struct{}](maxRecords),
		tags:    make(map[identity.Tag]identity.ID),
		names:   make(map[string]identity.ID),
		addrs:   make(map[netip.Addr]identity.ID),
	}
}

// peer returns what is known of an anchor, making room for it. The caller holds mu.
func (t *peerTable) peer(id identity.ID) *peer {
	if p, ok := t.peers.get(id); ok {
		return p
	}
	p := &peer{in: newLRU[[32]byte, cipher.AEAD](maxPairs), answers: newLimiter(10, 10)}
	if gone, evicted := t.peers.put(id, p); evicted {
		t.forget(gone)
		t.resolve(gone)
	}
	return p
}

// offer applies the session rule to a verified record. With the verdict pending it returns the
// candidate, and whether the caller has to challenge it.
func (t *peerTable) offer(r *identity.Record) (v verdict, next *candidate, begin bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peer(r.ID())
	newer := r.Current.Epoch > p.epoch || r.Current.Epoch == p.epoch && r.Counter > p.counter
	switch {
	case p.session == r.Session && !newer:
		if p.record == nil && r.Current.Epoch == p.epoch && r.Counter == p.counter {
			t.admit(p, r) // it had to make room
		}
		if p.record != nil && p.record.Counter == r.Counter {
			return admitted, nil, false
		}
		return outdated, nil, false
	case p.session == r.Session,
		p.session == identity.Nonce{},
		newer && time.Since(p.heard) >= silence:
		t.admit(p, r)
		return admitted, nil, false
	case p.next != nil && p.next.record.Session == r.Session:
		return pending, p.next, false
	case p.next != nil && !r.NewerThan(p.next.record), p.next == nil && t.candidates >= maxCandidates:
		return refused, nil, false
	}
	t.resolve(p)
	p.stale = true
	p.next = &candidate{record: r, done: make(chan struct{})}
	rand.Read(p.next.secret[:])
	t.candidates++
	return pending, p.next, true
}

// admit makes r the record known. The caller holds mu.
func (t *peerTable) admit(p *peer, r *identity.Record) {
	if p.session != r.Session {
		p.session, p.heard = r.Session, time.Time{}
		p.window, p.lastAll, p.anyAll = window{}, 0, false
		p.out = nil
	}
	p.epoch, p.counter, p.stale = r.Current.Epoch, r.Counter, false
	t.forget(p)
	t.keep(p, r)
	if p.next != nil && p.next.record.Session == r.Session {
		t.resolve(p)
	}
}

// keep puts r into the cache. The caller holds mu.
func (t *peerTable) keep(p *peer, r *identity.Record) {
	id := r.ID()
	p.record = r
	t.tags[r.Current.Tag], t.tags[r.Previous.Tag] = id, id
	if t.wins(t.names[r.Certificate.Name], r) {
		t.names[r.Certificate.Name] = id
	}
	for _, a := range r.Certificate.Addrs() {
		if t.wins(t.addrs[a], r) {
			t.addrs[a] = id
		}
	}
	t.records.put(id, struct{}{})
	for len(t.records.items) >= maxRecords {
		oldest := t.records.order.Back().Value.(*lruEntry[identity.ID, struct{}]).key
		if q, ok := t.peers.get(oldest); ok {
			t.forget(q)
		}
		t.records.remove(oldest)
	}
}

// wins reports whether a record takes a name or an address from the anchor that has it: the higher
// serial does. The caller holds mu.
func (t *peerTable) wins(has identity.ID, r *identity.Record) bool {
	p, ok := t.peers.get(has)
	return !ok || p.record == nil || has == r.ID() || p.record.Certificate.Serial < r.Certificate.Serial
}

// forget takes p's record out of the cache, but not what guards against replays. The caller holds mu.
func (t *peerTable) forget(p *peer) {
	r := p.record
	if r == nil {
		return
	}
	p.record = nil
	id := r.ID()
	t.records.remove(id)
	for _, tag := range []identity.Tag{r.Current.Tag, r.Previous.Tag} {
		if t.tags[tag] == id {
			delete(t.tags, tag)
		}
	}
	if t.names[r.Certificate.Name] == id {
		delete(t.names, r.Certificate.Name)
	}
	for _, a := range r.Certificate.Addrs() {
		if t.addrs[a] == id {
			delete(t.addrs, a)
		}
	}
}

// resolve ends the challenge of p's candidate, if any. The caller holds mu.
func (t *peerTable) resolve(p *peer) {
	if p.next != nil {
		close(p.next.done)
		p.next = nil
		t.candidates--
	}
}

// answered admits the candidate that answered its challenge with secret, and returns the messages held
// for it.
func (t *peerTable) answered(id identity.ID, session identity.Nonce, secret []byte) (held []*inbound, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peer(id)
	c := p.next
	if c == nil || c.record.Session != session || string(c.secret[:]) != string(secret) {
		return nil, false
	}
	held = c.held
	t.admit(p, c.record)
	return held, true
}

// giveUp ends a challenge that was not answered. If the old session has been silent for long enough by
// now, the candidate is admitted all the same. It returns the messages held.
func (t *peerTable) giveUp(c *candidate) (held []*inbound, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peer(c.record.ID())
	if p.next != c {
		return nil, false
	}
	r := c.record
	newer := r.Current.Epoch > p.epoch || r.Current.Epoch == p.epoch && r.Counter > p.counter
	if newer && time.Since(p.heard) >= silence {
		t.admit(p, r)
		return c.held, true
	}
	t.resolve(p)
	p.stale = false
	return c.held, false
}

// hold keeps a message until its session has answered.
func (t *peerTable) hold(c *candidate, in *inbound) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.peers.get(c.record.ID())
	if !ok || p.next != c || len(c.held) == maxHeld {
		return false
	}
	c.held = append(c.held, in)
	return true
}

// record returns the record known for one session of an anchor, admitted or under challenge.
func (t *peerTable) record(id identity.ID, session identity.Nonce) *identity.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.peers.get(id)
	switch {
	case !ok:
		return nil
	case p.session == session:
		return p.record
	case p.next != nil && p.next.record.Session == session:
		return p.next.record
	}
	return nil
}

// occupied reports whether another session of an anchor than this one was heard of late.
func (t *peerTable) occupied(id identity.ID, session identity.Nonce) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.peers.get(id)
	return ok && p.session != session && p.session != identity.Nonce{} && time.Since(p.heard) < silence
}

// take books a message of an admitted session, and reports whether it is new. ok is false if the
// session is not admitted.
func (t *peerTable) take(in *inbound) (fresh, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.peers.get(in.sender)
	if !ok || p.session != in.header.Session {
		return false, false
	}
	n := in.header.Counter
	if in.all {
		if p.anyAll && n <= p.lastAll {
			return false, true
		}
		p.lastAll, p.anyAll = n, true
	} else {
		if !p.window.take(n) {
			return false, true
		}
		if p.out != nil && p.out.session == p.session {
			p.out.confirmed = true
		}
	}
	p.heard, p.generation, p.reads = time.Now(), in.header.Generation, true
	return true, true
}

// cached returns the record under key, and whether another session has appeared since.
func (t *peerTable) cached(key Key) (r *identity.Record, stale bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := key.ID
	switch {
	case key.Tag != identity.Tag{}:
		id = t.tags[key.Tag]
	case key.Name != "":
		id = t.names[key.Name]
	case key.Addr.IsValid():
		id = t.addrs[key.Addr.Unmap()]
	}
	p, ok := t.peers.get(id)
	if !ok || p.record == nil {
		return nil, false
	}
	t.records.get(id)
	return p.record, p.stale
}

// pair returns the pair for a record's session and current epoch, nil if there is none.
func (t *peerTable) pair(r *identity.Record) *pair {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peer(r.ID()).outFor(r)
}

func (p *peer) outFor(r *identity.Record) *pair {
	if p.out != nil && p.out.session == r.Session && p.out.tag == r.Current.Tag {
		return p.out
	}
	return nil
}

// setPair keeps a pair unless another was made meanwhile, and returns the one kept.
func (t *peerTable) setPair(r *identity.Record, made *pair) *pair {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peer(r.ID())
	if had := p.outFor(r); had != nil {
		return had
	}
	if o := p.out; o != nil && o.session == made.session {
		made.own, made.confirmed = o.own, o.confirmed
	}
	p.out = made
	return made
}

// attach reports whether the next message of a pair is to carry the own record.
func (t *peerTable) attach(p *pair, own *identity.Record) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if p.own != own {
		p.own, p.confirmed, p.attached = own, false, 0
	}
	if p.confirmed || p.attached >= attachAlways && now.Sub(p.last) < attachEvery {
		return false
	}
	p.attached++
	p.last = now
	return true
}

// generation returns the generation of the realm secret that an anchor used last.
func (t *peerTable) generation(id identity.ID) (g uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, known := t.peers.get(id)
	if !known {
		return 0, false
	}
	return p.generation, p.reads
}

// found says in which generation the directory has an anchor's record.
func (t *peerTable) found(id identity.ID, generation uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peer(id); p.heard.IsZero() {
		p.generation, p.reads = generation, true
	}
}

// opener returns the cipher of bodies that a sender seals with a ciphertext, and keeps a new one.
func (t *peerTable) opener(id identity.ID, h [32]byte) (cipher.AEAD, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peer(id).in.get(h)
}

func (t *peerTable) setOpener(id identity.ID, h [32]byte, a cipher.AEAD) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.peer(id).in.put(h, a)
}

// allowAnswer limits the answers to one anchor.
func (t *peerTable) allowAnswer(id identity.ID) bool {
	t.mu.Lock()
	l := t.peer(id).answers
	t.mu.Unlock()
	return l.allow()
}

// dropUnless forgets the records for which serves is false.
func (t *peerTable) dropUnless(serves func(*identity.Certificate) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.peers.order.Front(); e != nil; e = e.Next() {
		p := e.Value.(*lruEntry[identity.ID, *peer]).value
		if p.record != nil && !serves(p.record.Certificate) {
			t.forget(p)
		}
	}
}
