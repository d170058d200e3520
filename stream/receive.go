package stream

import (
	"context"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/wire"
)

// openRequest is an open that waits to be answered.
type openRequest struct {
	from identity.ID // the neighbour that handed it over
	m    *buffer.Buf
}

// IsLocal implements route.Local.
func (e *Endpoint) IsLocal(tag identity.Tag) bool { return e.cfg.Session.IsLocal(tag) }

// Receive implements route.Local: it hands a message to its stream. It runs in a link's read
// loop and waits for nothing but short locks; what costs more than a decryption goes to a queue.
func (e *Endpoint) Receive(from identity.ID, m *buffer.Buf) {
	env, err := wire.ParseEnvelope(m.Bytes())
	if err != nil {
		e.count.malformed.Inc()
		m.Release()
		return
	}
	switch env.Kind {
	case wire.KindOpen:
		e.receiveOpen(from, m, env.Stream) // takes m over
		return
	case wire.KindData:
		if in, ok := e.in.get(env.Stream); ok {
			in.receiveData(m) // takes m over
			return
		}
		e.count.unknown.Inc()
	default:
		if !e.receiveRest(m, &env) {
			e.count.unknown.Inc()
		}
	}
	m.Release()
}

// receiveRest handles the small kinds. The caller keeps m.
func (e *Endpoint) receiveRest(m *buffer.Buf, env *wire.Envelope) bool {
	now := time.Now()
	switch env.Kind {
	case wire.KindAccept:
		if _, known := e.out.get(env.Stream); known { // a repeat, after the stream is established
			e.count.duplicates.Inc()
			return true
		}
		return e.receiveAccept(env.Stream, m)
	case wire.KindAck:
		o, ok := e.out.get(env.Stream)
		if ok {
			o.receiveAck(m, now)
		}
		return ok
	default:
		if in, ok := e.in.get(env.Stream); ok {
			in.receiveControl(m, now)
			return true
		}
		o, ok := e.out.get(env.Stream)
		if ok {
			o.receiveControl(m, now)
		}
		return ok
	}
}

// receiveControl takes a close or a probe of the responder. Only a close says anything: that
// the responder has forgotten the stream.
func (o *outbound) receiveControl(m *buffer.Buf, now time.Time) {
	c, err := o.opener.OpenControl(m, now)
	if err != nil {
		o.peer.e.count.failure(err)
		return
	}
	o.peer.e.count.stage.In.Inc()
	if c.Kind == wire.KindClose {
		o.end(ErrEnded)
	}
}

// receiveOpen admits an open by its neighbour's share and queues it.
func (e *Endpoint) receiveOpen(from identity.ID, m *buffer.Buf, id wire.StreamID) {
	e.mu.Lock()
	ok := e.gate.admitOpen(time.Now(), from)
	e.mu.Unlock()
	if !ok {
		e.count.flood.Inc()
		m.Release()
		return
	}
	if e.opens.Push(e.life, openRequest{from, m}) != nil {
		e.count.full.Inc()
		m.Release()
	}
}

// answerOpens is the goroutine that answers opens, one at a time: their cost is bounded by
// the rate that floodgate admits.
func (e *Endpoint) answerOpens() {
	var requests [8]openRequest
	for {
		n, err := e.opens.Pop(context.Background(), requests[:]) // ends when Close closes the queue
		if err != nil {
			return
		}
		for _, r := range requests[:n] {
			if e.life.Err() == nil {
				e.answerOpen(r)
			}
			r.m.Release()
		}
	}
}

// answerOpen is the responder's side of the handshake.
func (e *Endpoint) answerOpen(r openRequest) {
	open := r.m.Bytes()
	env, err := wire.ParseEnvelope(open)
	if err != nil {
		e.count.malformed.Inc()
		return
	}
	if in, ok := e.in.get(env.Stream); ok {
		if accept, err := in.est.Answer(open); err == nil {
			e.count.duplicates.Inc()
			e.wg.Go(func() { e.answer(in, accept) })
		} else {
			e.count.open.Inc()
		}
		return
	}
	h, err := OpenBox1(e.cfg.Session, open)
	if err == nil {
		err = h.Verify(e.cfg.Verifier)
	}
	if err != nil {
		e.cfg.Logger.Debug("open refused", "from", r.from.Short(), "err", err)
		e.count.handshake(err)
		return
	}
	e.accept(h)
}

// accept establishes a verified stream if the initiator may have one.
func (e *Endpoint) accept(h *Hello) {
	r := h.Peer()
	if err := e.admitted(r.Certificate); err != nil {
		e.cfg.Logger.Debug("open refused", "peer", r.Certificate.Name, "err", err)
		e.count.refused.Inc()
		return
	}
	if !e.cfg.Directory.Learn(r) {
		e.count.stale.Inc()
		return
	}
	now := time.Now()
	e.mu.Lock()
	ok := !e.closed && e.gate.admitInitiator(now, r.ID())
	e.mu.Unlock()
	if !ok {
		e.count.flood.Inc()
		return
	}
	accept, est, err := h.Accept(uint64(GenerousGrant), now)
	if err != nil {
		e.release(r.ID())
		e.count.open.Inc()
		return
	}
	in := newInbound(e, est, now)
	if !e.in.put(est.ID, in) {
		in.cancel()
		e.release(r.ID())
		e.count.open.Inc()
		return
	}
	e.count.stage.In.Inc()
	e.wg.Go(in.acknowledge)
	e.wg.Go(func() { e.answer(in, accept) })
}

// answer sends an accept. At most one goroutine does for each open that floodgate admits.
func (e *Endpoint) answer(in *inbound, accept []byte) {
	ctx, cancel := context.WithTimeout(in.life, MaxAge)
	defer cancel()
	if err := e.sendCopy(ctx, in.to, accept); err != nil {
		e.cfg.Logger.Debug("accept not sent", "peer", in.record.Certificate.Name, "err", err)
	}
}

// release gives an initiator's place among the unconfirmed back.
func (e *Endpoint) release(id identity.ID) {
	e.mu.Lock()
	e.gate.release(id)
	e.mu.Unlock()
}

// neighborState is the session of a neighbour, and whether the tether to it is up.
type neighborState struct {
	session identity.Nonce
	up      bool
}

// sessionsMax bounds how many neighbours' sessions are remembered.
const sessionsMax = 4096

// NeighborUp implements route.Local.
func (e *Endpoint) NeighborUp(id identity.ID, session identity.Nonce) {
	e.mu.Lock()
	before, known := e.sessions[id]
	if !known && len(e.sessions) >= sessionsMax {
		e.forgetSession()
	}
	e.sessions[id] = neighborState{session, true}
	p := e.peers[id]
	e.mu.Unlock()
	for _, o := range e.out.all() {
		if o.dest.ID == id && o.peerSession != session {
			o.end(errSessionEnded)
		}
	}
	for _, in := range e.in.all() {
		if in.record.ID() == id && in.record.Session != session {
			in.end()
		}
	}
	if known && before.session != session {
		e.cfg.OnNewSession(id)
	}
	if p != nil {
		p.nudge()
	}
}

// forgetSession makes room for one neighbour more. Called with mu held.
func (e *Endpoint) forgetSession() {
	for id, s := range e.sessions {
		if !s.up {
			delete(e.sessions, id)
			return
		}
	}
}

// NeighborDown implements route.Local: what left by the hop goes by another at once.
func (e *Endpoint) NeighborDown(id identity.ID) {
	e.mu.Lock()
	if s, ok := e.sessions[id]; ok {
		s.up = false
		e.sessions[id] = s
	}
	e.mu.Unlock()
	for _, o := range e.out.all() {
		o.hopDied(id)
	}
}

// neighborSession returns the session of a neighbour that the tether is up to.
func (e *Endpoint) neighborSession(id identity.ID) (identity.Nonce, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sessions[id]
	return s.session, s.up
}
