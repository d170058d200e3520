package stream

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// Opener opens the messages of one direction of a stream: what the other end's Sealer made.
// It is safe for concurrent use: messages may be opened in parallel. A number counts as
// arrived once its message is authenticated, and of two copies opened at once the second is
// a duplicate.
type Opener struct {
	half
	initiator bool // opens what the initiator seals
	verify    func(message, signature []byte) bool
	start     time.Time
	age       time.Duration

	mu     sync.Mutex
	window replay
	roots  rootCache
}

// ID is the stream id that the messages bear.
func (o *Opener) ID() wire.StreamID { return o.id }

// Open decrypts data message m in place and verifies it. The packets of the result are
// windows of m, whose window does not change; the caller keeps its reference. Errors, in the
// order of the checks: ErrMalformed with wire's for an envelope, ErrKind, ErrStreamID,
// ErrLimit, ErrReplayed, ErrDuplicate, ErrSeal (which leaves m's bytes undefined),
// ErrMalformed with wire's for the plaintext, ErrSignature.
func (o *Opener) Open(m *buffer.Buf, now time.Time) (Data, error) {
	sc := o.scratch.Get().(*scratch)
	defer o.scratch.Put(sc)
	e, body, err := o.decrypt(sc, m.Bytes(), now, wire.KindData)
	if err != nil {
		return Data{}, err
	}
	d := Data{Number: e.Number}
	if err := d.Body.Parse(body); err != nil {
		return Data{}, malformed(e, err)
	}
	d.Floor = d.Body.Floor
	if err := checkFloor(e, d.Floor); err != nil {
		return Data{}, err
	}
	if !o.verified(sc, e.Number, &d.Body) {
		return Data{}, fmt.Errorf("stream: open message %d: %w", e.Number, ErrSignature)
	}
	return d, o.commit(e, d.Floor)
}

// OpenAck decrypts acknowledgement m in place, reads it into a and returns its number in the
// responder's direction. Errors as of Open.
func (o *Opener) OpenAck(m *buffer.Buf, a *wire.AckBody, now time.Time) (number uint64, err error) {
	sc := o.scratch.Get().(*scratch)
	defer o.scratch.Put(sc)
	e, body, err := o.decrypt(sc, m.Bytes(), now, wire.KindAck)
	if err != nil {
		return 0, err
	}
	if err := a.Parse(body); err != nil {
		return 0, malformed(e, err)
	}
	return e.Number, o.commit(e, 0)
}

// Control is an opened message of kind close, probe or signal.
type Control struct {
	Kind   wire.Kind
	Number uint64
	Floor  uint64 // of a probe; as of Data
	Final  uint64 // of a close: messages of the direction have numbers below it
	Record []byte // of a probe at an epoch change, not verified; a window of the message
	Signal []byte // of a signal; a window of the message
}

// OpenControl decrypts close, probe or signal m in place. Errors as of Open.
func (o *Opener) OpenControl(m *buffer.Buf, now time.Time) (Control, error) {
	sc := o.scratch.Get().(*scratch)
	defer o.scratch.Put(sc)
	e, body, err := o.decrypt(sc, m.Bytes(), now, anyControl)
	if err != nil {
		return Control{}, err
	}
	c := Control{Kind: e.Kind, Number: e.Number}
	if err := c.parse(body); err != nil {
		return Control{}, malformed(e, err)
	}
	if c.Kind == wire.KindProbe && o.initiator {
		if err := checkFloor(e, c.Floor); err != nil {
			return Control{}, err
		}
	} else if c.Floor != 0 { // nobody sends the responder's messages again
		return Control{}, malformed(e, wire.ErrLayout)
	}
	return c, o.commit(e, c.Floor)
}

// parse reads the plaintext body of a message of kind c.Kind.
func (c *Control) parse(body []byte) error {
	switch c.Kind {
	case wire.KindClose:
		b, err := wire.ParseCloseBody(body)
		if err == nil && b.Final > c.Number {
			err = wire.ErrLayout
		}
		c.Final = b.Final
		return err
	case wire.KindProbe:
		b, err := wire.ParseProbeBody(body)
		c.Floor, c.Record = b.Floor, b.Record
		return err
	default:
		if len(body) == 0 {
			return wire.ErrShort
		}
		c.Signal = body
		return nil
	}
}

// anyControl asks decrypt for the kinds that OpenControl takes.
const anyControl wire.Kind = 0

// decrypt makes the checks that cost nothing, opens m in place and returns its plaintext.
func (o *Opener) decrypt(sc *scratch, m []byte, now time.Time, kind wire.Kind) (wire.Envelope, []byte, error) {
	e, err := wire.ParseEnvelope(m)
	if err != nil {
		return e, nil, fmt.Errorf("stream: open: %w: %w", ErrMalformed, err)
	}
	if err := o.admit(&e, now, kind); err != nil {
		return e, nil, err
	}
	head, body := m[:wire.EnvelopeSize:wire.EnvelopeSize], m[wire.EnvelopeSize:]
	head[2], head[3] = 0, 0 // masked, as additional data
	plain, err := o.aead.Open(body[:0], o.nonceFor(sc, e.Number), body, head)
	head[2], head[3] = e.HopLimit, e.Flags
	if err != nil {
		return e, nil, fmt.Errorf("stream: open message %d: %w", e.Number, ErrSeal)
	}
	return e, plain, nil
}

// admit says whether a message with envelope e may come at all.
func (o *Opener) admit(e *wire.Envelope, now time.Time, kind wire.Kind) error {
	switch {
	case !o.takes(e.Kind, kind):
		return fmt.Errorf("stream: open %v: %w", e.Kind, ErrKind)
	case e.Stream != o.id:
		return fmt.Errorf("stream: open: %w", ErrStreamID)
	case e.Number >= HardMessages || now.Sub(o.start) >= o.age:
		return fmt.Errorf("stream: open message %d: %w", e.Number, ErrLimit)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.window.check(e.Number)
}

// takes reports whether a message of kind k may come when want is asked for.
func (o *Opener) takes(k, want wire.Kind) bool {
	switch k {
	case wire.KindData:
		return o.initiator && want == k
	case wire.KindAck:
		return !o.initiator && want == k
	case wire.KindClose, wire.KindProbe:
		return want == anyControl
	case wire.KindSignal:
		return o.initiator && want == anyControl
	}
	return false
}

// verified checks the signature block of an opened body. A root that a signature of the peer
// covered once needs no second verification.
func (o *Opener) verified(sc *scratch, number uint64, d *wire.DataBody) bool {
	leafOf(sc, number, d.Signed)
	root := rootFrom(&sc.leaf, int(d.Block.N), int(d.Block.Index), d.Block.Path)
	sc.signed[0] = d.Block.N
	copy(sc.signed[1:], root[:])
	copy(sc.signed[1+wire.HashSize:], d.Block.Signature)
	key := sha256.Sum256(sc.signed[:])

	o.mu.Lock()
	known := o.roots.has(&key)
	o.mu.Unlock()
	if known {
		return true
	}
	if !o.verify(sc.signed[:1+wire.HashSize], sc.signed[1+wire.HashSize:]) {
		return false
	}
	o.mu.Lock()
	o.roots.add(&key)
	o.mu.Unlock()
	return true
}

// commit marks an authenticated message as arrived.
func (o *Opener) commit(e wire.Envelope, floor uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.window.mark(e.Number, floor)
}

// checkFloor refuses a floor that no sender would tell in message e.
func checkFloor(e wire.Envelope, floor uint64) error {
	if floor > e.Number || e.Number-floor >= Window {
		return fmt.Errorf("stream: open %v %d: floor %d: %w", e.Kind, e.Number, floor, ErrMalformed)
	}
	return nil
}

func malformed(e wire.Envelope, err error) error {
	return fmt.Errorf("stream: open %v %d: %w: %w", e.Kind, e.Number, ErrMalformed, err)
}

// rootCache is the last 64 verified roots, by H(n ‖ root ‖ signature).
type rootCache struct {
	keys [64]node
	n    int // added in all
}

func (c *rootCache) has(key *node) bool {
	for i := range min(c.n, len(c.keys)) {
		if c.keys[i] == *key {
			return true
		}
	}
	return false
}

func (c *rootCache) add(key *node) {
	c.keys[c.n%len(c.keys)] = *key
	c.n++
}
