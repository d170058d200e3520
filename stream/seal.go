package stream

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// The hard limits of a stream's keys. No policy changes them: beyond, nothing is sealed.
const (
	// HardAge is how long the initiator of a stream seals with its keys.
	HardAge = 180 * time.Second
	// HardMessages is how many numbers a direction of a stream has.
	HardMessages = 1 << 23

	// lateAge is how much longer messages of the stream are opened and acknowledged: the two
	// ends start their clocks up to a handshake apart (10 s), and late resends follow (5 s).
	lateAge = 15 * time.Second
)

// ended marks a counter after the last message of a direction.
const ended = 1 << 63

// Sealer seals the messages of one direction of a stream: data, probes, signals and the close
// of its initiator, acknowledgements, probes and the close of its responder. It is safe for
// concurrent use; messages may be sealed in parallel, and each gets its own number. It stops
// with ErrLimit at a hard limit and with ErrEnded after its close, or after a failure that
// left a number unused.
type Sealer struct {
	half
	tag       identity.Tag // of the anchor at the other end
	hopLimit  uint8
	initiator bool
	signer    *Signer // nil for the responder's direction
	start     time.Time
	age       time.Duration
	counter   atomic.Uint64 // the next number, or with the bit ended
}

// ID is the stream id that the messages bear.
func (s *Sealer) ID() wire.StreamID { return s.id }

// Next is the number that the next message gets; after the end, how many there were.
func (s *Sealer) Next() uint64 { return s.counter.Load() &^ ended }

// Seal makes a data message of b. It takes the next number, signs and seals; it waits for
// the Signer only. floor is the number below which no message will be sent again: everything
// below is acknowledged or given up, and the message's number must be less than Window above
// it (ErrWindow). It takes over b in every case. The result has one reference, and b's Born.
func (s *Sealer) Seal(b *Batch, floor uint64, now time.Time) (m *buffer.Buf, number uint64, err error) {
	if b.Count() == 0 {
		b.Release()
		return nil, 0, fmt.Errorf("stream: seal: %w", ErrEmpty)
	}
	if s.signer == nil {
		b.Release()
		return nil, 0, fmt.Errorf("stream: seal: %w", ErrKind)
	}
	if number, err = s.take(floor, now, false); err != nil {
		b.Release()
		return nil, 0, err
	}
	m = b.take(floor)
	sc := s.scratch.Get().(*scratch)
	defer s.scratch.Put(sc)

	leafOf(sc, number, m.Bytes())
	signed := m.Len()
	block, err := s.signer.Sign(sc.leaf, m.Extend(wire.MaxSignatureBlock)[:0])
	if err != nil {
		s.end()
		m.Release()
		return nil, 0, fmt.Errorf("stream: seal message %d: %w: %w", number, ErrEnded, err)
	}
	m.Truncate(signed + len(block))
	s.finish(sc, m, wire.KindData, number)
	return m, number, nil
}

// SealAck makes an acknowledgement. Only the responder's direction has them.
func (s *Sealer) SealAck(a *wire.AckBody, now time.Time) (m *buffer.Buf, number uint64, err error) {
	if s.initiator {
		return nil, 0, fmt.Errorf("stream: seal: %w", ErrKind)
	}
	if number, err = s.take(0, now, false); err != nil {
		return nil, 0, err
	}
	m = buffer.Get(a.Size() + wire.SealOverhead)
	a.Append(m.Extend(a.Size())[:0])
	s.seal(m, wire.KindAck, number)
	return m, number, nil
}

// SealProbe makes a probe, which asks for an acknowledgement at once and tells floor. record
// is the sender's new record at an epoch change, nil else.
func (s *Sealer) SealProbe(floor uint64, record []byte, now time.Time) (m *buffer.Buf, number uint64, err error) {
	if len(record) > wire.MaxProbeRecord {
		return nil, 0, fmt.Errorf("stream: seal: record of %d bytes: %w", len(record), ErrMalformed)
	}
	if number, err = s.take(floor, now, false); err != nil {
		return nil, 0, err
	}
	body := wire.ProbeBody{Floor: floor, Record: record}
	m = buffer.Get(body.Size() + wire.SealOverhead)
	body.Append(m.Extend(body.Size())[:0])
	s.seal(m, wire.KindProbe, number)
	return m, number, nil
}

// MaxSignal is the largest body of a signal in bytes.
const MaxSignal = wire.MaxMessage - wire.EnvelopeSize - wire.SealOverhead

// SealSignal makes a signalling message. Only the initiator's direction has them.
func (s *Sealer) SealSignal(body []byte, floor uint64, now time.Time) (m *buffer.Buf, number uint64, err error) {
	switch {
	case !s.initiator:
		return nil, 0, fmt.Errorf("stream: seal: %w", ErrKind)
	case len(body) == 0 || len(body) > MaxSignal:
		return nil, 0, fmt.Errorf("stream: seal: signal of %d bytes: %w", len(body), ErrMalformed)
	}
	if number, err = s.take(floor, now, false); err != nil {
		return nil, 0, err
	}
	m = buffer.Get(len(body) + wire.SealOverhead)
	m.Append(body)
	s.seal(m, wire.KindSignal, number)
	return m, number, nil
}

// SealClose makes the close, after which the Sealer returns ErrEnded. Its final number is its
// own: all other messages of the direction are below.
func (s *Sealer) SealClose(floor uint64, now time.Time) (m *buffer.Buf, number uint64, err error) {
	if number, err = s.take(floor, now, true); err != nil {
		return nil, 0, err
	}
	m = buffer.Get(wire.CloseBodySize + wire.SealOverhead)
	wire.CloseBody{Final: number}.Append(m.Extend(wire.CloseBodySize)[:0])
	s.seal(m, wire.KindClose, number)
	return m, number, nil
}

// take takes the next number, or says why there is none. What the responder sends is not
// acknowledged, so no floor binds it.
func (s *Sealer) take(floor uint64, now time.Time, last bool) (uint64, error) {
	if now.Sub(s.start) >= s.age {
		return 0, fmt.Errorf("stream: seal after %v: %w", s.age, ErrLimit)
	}
	for {
		n := s.counter.Load()
		next := n + 1
		switch {
		case n&ended != 0:
			return 0, fmt.Errorf("stream: seal: %w", ErrEnded)
		case n >= HardMessages:
			return 0, fmt.Errorf("stream: seal message %d: %w", n, ErrLimit)
		case s.initiator && (floor > n || n-floor >= Window):
			return 0, fmt.Errorf("stream: seal message %d above floor %d: %w", n, floor, ErrWindow)
		case last:
			next |= ended
		}
		if s.counter.CompareAndSwap(n, next) {
			return n, nil
		}
	}
}

// end stops the Sealer.
func (s *Sealer) end() { s.counter.Or(ended) }

func (s *Sealer) seal(m *buffer.Buf, kind wire.Kind, number uint64) {
	sc := s.scratch.Get().(*scratch)
	s.finish(sc, m, kind, number)
	s.scratch.Put(sc)
}

// finish seals the plaintext in m's window in place and writes the envelope before it. The
// envelope is its own additional data while hop limit and flags are zero; see wire.Masked.
func (s *Sealer) finish(sc *scratch, m *buffer.Buf, kind wire.Kind, number uint64) {
	m.Extend(wire.SealOverhead)
	envelope := wire.Envelope{Kind: kind, Tag: s.tag, Stream: s.id, Number: number}
	head := m.Prepend(wire.EnvelopeSize)
	envelope.Put(head)
	body := m.Bytes()[wire.EnvelopeSize:]
	s.aead.Seal(body[:0], s.nonceFor(sc, number), body[:len(body)-wire.SealOverhead], head)
	head[2] = s.hopLimit
}
