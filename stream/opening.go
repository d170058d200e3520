package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/route"
)

const (
	openTries   = 3                      // how often one open is sent
	openBackoff = 300 * time.Millisecond // before the second time; doubles
	// openTimeout bounds one opening: directory, tether, and the answer.
	openTimeout = 15 * time.Second
)

// opening is a handshake under way. Its accept comes through accepted, which the read loops
// fill and never wait for.
type opening struct {
	initiator *Initiator
	accepted  chan *buffer.Buf // capacity 1: the first accept; others are repeats
}

// open makes a stream to the peer: its record, a way to it, the handshake. The record is asked
// for anew if a neighbour's hello has shown another session than the one known.
func (p *peer) open(ctx context.Context, old *outbound) (*outbound, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	r, err := p.record(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.e.admitted(r.Certificate); err != nil {
		return nil, err
	}
	cfg := InitiatorConfig{Session: p.e.cfg.Session, Peer: r, Signer: p.e.signer}
	if old != nil && old.peerSession == r.Session {
		cfg.Predecessor = old.sealer.ID()
	}
	i, message, err := NewInitiator(cfg)
	if err != nil {
		return nil, err
	}
	op := &opening{initiator: i, accepted: make(chan *buffer.Buf, 1)}
	p.e.openings.put(i.Reply(), op)
	defer p.e.endOpening(op)
	return p.handshake(ctx, op, r, message)
}

// record returns the newest record of the peer.
func (p *peer) record(ctx context.Context) (*identity.Record, error) {
	r, err := p.e.cfg.Directory.Record(ctx, p.id, false)
	if err != nil {
		return nil, fmt.Errorf("stream: record of %s: %w", p.id.Short(), err)
	}
	if session, ok := p.e.neighborSession(p.id); ok && session != r.Session {
		if r, err = p.e.cfg.Directory.Record(ctx, p.id, true); err != nil {
			return nil, fmt.Errorf("stream: new record of %s: %w", p.id.Short(), err)
		}
	}
	return r, nil
}

// handshake sends the open, again with back-off, until a valid accept comes.
func (p *peer) handshake(ctx context.Context, op *opening, r *identity.Record, message []byte) (*outbound, error) {
	to := &route.Destination{ID: r.ID(), Tag: r.Current.Tag, Locator: r.Current.Locator}
	wait := openBackoff
	began := time.Now()
	for try := range openTries {
		if try > 0 {
			p.e.count.repeats.Inc()
		}
		sent := time.Now()
		if err := p.e.sendCopy(ctx, to, message); err != nil {
			return nil, err
		}
		if try == 0 {
			began = sent
		}
		est, err := p.awaitAccept(ctx, op, wait)
		if err != nil {
			return nil, err
		}
		if est != nil {
			now := time.Now()
			rtt := now.Sub(began)
			if try > 0 {
				rtt = 0 // it is not known which open was answered
			}
			o := newOutbound(p, r, est, rtt, now)
			p.e.out.put(est.Reply, o)
			return o, nil
		}
		wait *= 2
	}
	return nil, fmt.Errorf("stream: open to %s: %w", r.Certificate.Name, ErrNoAnswer)
}

// awaitAccept waits for a valid accept; it returns nil if none came in time.
func (p *peer) awaitAccept(ctx context.Context, op *opening, wait time.Duration) (*Established, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case m := <-op.accepted:
			est, err := op.initiator.Accept(m.Bytes(), time.Now())
			m.Release()
			if err == nil {
				p.e.count.stage.In.Inc()
				return est, nil
			}
			p.e.count.open.Inc() // forged or damaged: the true one may still come
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("stream: open to %s: %w", p.id.Short(), context.Cause(ctx))
		}
	}
}

// endOpening forgets an opening and lets go of an accept that nobody took.
func (e *Endpoint) endOpening(op *opening) {
	e.openings.remove(op.initiator.Reply())
	select {
	case m := <-op.accepted:
		m.Release()
	default:
	}
}

// sendCopy sends bytes that are kept elsewhere as a message.
func (e *Endpoint) sendCopy(ctx context.Context, to *route.Destination, message []byte) error {
	d, err := e.cfg.Forwarder.Pick(ctx, to, route.Request{Size: len(message)})
	if err != nil {
		return err
	}
	m := buffer.Get(len(message))
	m.Append(message)
	if err := e.cfg.Forwarder.Send(ctx, d, m); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return nil // as good as lost: it is sent again
	}
	e.count.stage.Out.Inc()
	return nil
}

// receiveAccept takes an accept in a read loop. It reports whether the message was for an
// opening of ours.
func (e *Endpoint) receiveAccept(id wire.StreamID, m *buffer.Buf) bool {
	op, ok := e.openings.get(id)
	if !ok {
		return false
	}
	select {
	case op.accepted <- m.Retain():
	default: // a repeat
		m.Release()
		e.count.duplicates.Inc()
	}
	return true
}
