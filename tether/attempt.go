package tether

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

const (
	// collectFor is how long an offer or answer waits for candidates to go with it; local
	// addresses come within a millisecond. Later ones follow by themselves.
	collectFor = 3 * time.Millisecond
	// resendFirst and resendLast bound the pause before signalling is sent again, which doubles.
	resendFirst, resendLast = 200 * time.Millisecond, time.Second
	// unansweredFor is how long an attempt waits for the peer's first word: it may be away, or
	// its session may have ended. attemptFor is how long an attempt may take in all.
	unansweredFor, attemptFor = 4 * time.Second, 12 * time.Second
)

var (
	errUnanswered = errors.New("no answer to signalling")
	errNoPath     = errors.New("no path found in time")
	errNoHello    = errors.New("no hello in time")
	errLinkFailed = errors.New("link failed")
	errChanged    = errors.New("answer contradicts what the ask said")
)

// attempt is one attempt at a tether, as offerer or answerer. It belongs to its peer's goroutine.
type attempt struct {
	cert    *identity.Certificate
	session identity.Nonce // the peer's
	link    link
	id      wire.LinkID // of the offer; of the ask until an offer came
	asking  bool        // no offer yet
	offer   [32]byte    // H(offer), once it is made
	tether  *tether     // once the link is open

	first   *wire.Signal // ask, offer or answer; sent again until it is answered
	body    []byte       // first, encoded; nil while it waits for candidates
	collect time.Time    // until then
	told    int          // how many of our candidates have been sent
	replied bool         // first needs no sending any more

	connected bool // the link knows the peer's description
	remote    wire.Description
	have      uint32 // the peer's candidates that the link knows, by index

	resend   time.Time
	sent     int  // how often first was sent
	looked   bool // whether the peer's session has been looked up anew
	pause    time.Duration
	deadline time.Time
	end      time.Time // the last possible deadline
}

// next says when to look at the attempt again at the latest.
func (a *attempt) next() time.Time {
	switch {
	case a.tether != nil:
		return a.deadline
	case a.body == nil:
		return a.collect
	case a.deadline.Before(a.resend):
		return a.deadline
	}
	return a.resend
}

// prepare makes an attempt with a new link.
func (p *peer) prepare(cert *identity.Certificate, session identity.Nonce) (*attempt, error) {
	m := p.m
	m.mu.Lock()
	full := m.attempts >= m.cfg.MaxAttempts
	if !full {
		m.attempts++
	}
	m.mu.Unlock()
	if full {
		return nil, errTooMany
	}
	now := time.Now()
	a := &attempt{
		cert: cert, session: session,
		pause: resendFirst, deadline: now.Add(unansweredFor), end: now.Add(attemptFor),
	}
	p.att = a
	m.count.attempts.Inc()
	maker, err := m.maker()
	if err == nil {
		a.link, err = maker.newLink(func() { signal(p.wake) })
	}
	if err != nil {
		return nil, p.giveUp(err)
	}
	return a, nil
}

// newID draws a link id or an ask's id.
func (m *Manager) newID() (id wire.LinkID) {
	binary.BigEndian.PutUint64(id[:8], m.counter.Add(1))
	rand.Read(id[8:]) // never fails
	return id
}

// message starts a signalling message to the attempt's session.
func (p *peer) message(a *attempt, t wire.SignalType) *wire.Signal {
	return &wire.Signal{
		Type: t, From: p.m.own.ID, To: p.id, FromSession: p.m.nonce, ToSession: a.session,
		Link: a.id, Offer: a.offer,
	}
}

// offer begins an attempt as offerer, in reply to an ask if it is not nil.
func (p *peer) offer(cert *identity.Certificate, session identity.Nonce, ask *wire.Signal) error {
	a, err := p.prepare(cert, session)
	if err != nil {
		return err
	}
	a.id = p.m.newID()
	a.first = p.message(a, wire.SignalOffer)
	if a.first.Description, err = a.link.offer(); err != nil {
		return p.giveUp(err)
	}
	a.collect = time.Now().Add(collectFor)
	if ask != nil {
		a.first.Ask = ask.Link
		if ask.HasDescription { // half a round trip sooner than by the answer
			if err := a.link.accept(ask.Description); err != nil {
				return p.giveUp(err)
			}
			a.connected, a.remote = true, ask.Description
		}
		a.extend() // the peer is there
	}
	return nil
}

// ask begins an attempt by asking the peer, whose id is lower, for an offer.
func (p *peer) ask(cert *identity.Certificate, session identity.Nonce) error {
	a, err := p.prepare(cert, session)
	if err != nil {
		return err
	}
	a.id, a.asking = p.m.newID(), true
	a.first = p.message(a, wire.SignalAsk)
	if p.seen.session == session {
		a.first.Newest = p.seen.offer
	}
	a.first.Description, a.first.HasDescription = a.link.describe()
	a.body = a.first.Append(nil)
	p.sendFirst(a)
	return nil
}

// answer takes an offer: by the link of our ask if the offer is a reply to it or crossed it, else
// by a new one.
func (p *peer) answer(s *wire.Signal, cert *identity.Certificate) error {
	a := p.att
	if a == nil || !a.asking || a.session != s.FromSession {
		if a != nil {
			p.discard()
		}
		var err error
		if a, err = p.prepare(cert, s.FromSession); err != nil {
			return err
		}
	}
	a.id, a.offer = s.Link, sha256.Sum256(s.Append(nil))
	a.first, a.body = p.message(a, wire.SignalAnswer), nil
	var err error
	if a.first.Description, err = a.link.answer(s.Description); err != nil {
		return p.giveUp(err)
	}
	a.asking, a.connected, a.remote = false, true, s.Description
	a.collect = time.Now().Add(collectFor)
	a.pause = resendFirst
	a.extend()
	p.addCandidates(a, s)
	return nil
}

// extend gives the attempt its full time, because the peer is there.
func (a *attempt) extend() { a.deadline = a.end }

// signalled handles a signalling message that HandleSignal let through.
func (p *peer) signalled(s *wire.Signal, cert *identity.Certificate) {
	switch s.Type {
	case wire.SignalAsk:
		p.asked(s, cert)
	case wire.SignalOffer:
		p.offered(s, cert)
	case wire.SignalAnswer:
		p.answered(s)
	case wire.SignalCandidate:
		if a := p.att; a != nil && a.connected && !a.asking && a.id == s.Link && a.offer == s.Offer && a.session == s.FromSession {
			p.addCandidates(a, s)
		} else {
			p.m.count.signalStale.Inc()
		}
	}
}

// asked handles an ask. It begins an attempt, unless one that the asking side had not heard of
// when it asked is under way or up already. An attempt for an earlier ask is void: the link
// that the ask described is gone.
func (p *peer) asked(s *wire.Signal, cert *identity.Certificate) {
	known := p.seen.of(s.FromSession)
	a, t := p.att, p.cur
	switch {
	case s.Link.Counter() <= known.ask,
		t != nil && t.alive() && t.session == s.FromSession && t.number > s.Newest:
		p.m.count.signalStale.Inc()
		return
	case a != nil && a.session == s.FromSession && a.first.Ask == (wire.LinkID{}) && a.id.Counter() > s.Newest: // they crossed
		p.m.count.signalStale.Inc()
		a.extend()
		return
	}
	p.allowed(&known.ask, s.Link.Counter(), func() error {
		if a != nil {
			p.discard()
		}
		return p.offer(cert, s.FromSession, s)
	})
}

// offered handles an offer: the newest of a session counts, and the reply to an ask only while
// that ask is the current one.
func (p *peer) offered(s *wire.Signal, cert *identity.Certificate) {
	known := p.seen.of(s.FromSession)
	a := p.att
	replyToCurrent := s.Ask == (wire.LinkID{}) || a != nil && a.asking && a.id == s.Ask
	if n := s.Link.Counter(); n > known.offer && replyToCurrent {
		p.allowed(&known.offer, n, func() error { return p.answer(s, cert) })
		return
	}
	p.m.count.signalStale.Inc()
	if a != nil && !a.asking && a.id == s.Link && a.tether == nil { // it did not get our answer
		p.again(a)
	}
}

// allowed begins an attempt that the peer asks for, if it may, and sets newest to its counter.
func (p *peer) allowed(newest *uint64, counter uint64, begin func() error) {
	if !p.seen.spend(time.Now()) {
		p.m.count.signalRefused.Inc()
		return
	}
	switch err := begin(); {
	case errors.Is(err, errTooMany): // it is asked for again
		p.seen.refund()
		p.m.count.signalRefused.Inc()
		return
	case err != nil:
		p.failed(err)
	}
	*newest = counter
}

// answered handles an answer to our offer.
func (p *peer) answered(s *wire.Signal) {
	a := p.att
	if a == nil || a.body == nil || a.id != s.Link || a.offer != s.Offer || a.session != s.FromSession {
		p.m.count.signalStale.Inc()
		return
	}
	switch {
	case a.connected && a.remote != s.Description:
		p.m.count.signalRefused.Inc()
		p.fail(errChanged)
		return
	case !a.connected:
		if err := a.link.accept(s.Description); err != nil {
			p.fail(err)
			return
		}
		a.connected, a.remote = true, s.Description
	case a.replied:
		p.m.count.signalStale.Inc()
	}
	a.replied = true
	a.extend()
	p.addCandidates(a, s)
}

// addCandidates gives the link those candidates that it does not know and may use.
func (p *peer) addCandidates(a *attempt, s *wire.Signal) {
	for i, c := range s.Candidates {
		bit := uint32(1) << (int(s.First) + i)
		if a.have&bit != 0 || !p.usable(a, c) {
			continue
		}
		a.have |= bit
		if err := a.link.add(c); err != nil {
			p.m.log.Debug("candidate is not taken", "peer", p.id.Short(), "err", err)
		}
	}
}

func (p *peer) usable(a *attempt, c wire.Candidate) bool {
	for _, overlay := range a.cert.Addrs() {
		if c.Addr.Addr() == overlay {
			return false
		}
	}
	return p.m.usable("", c.Addr.Addr())
}

// advance takes the attempt a step further.
func (p *peer) advance(now time.Time) {
	a := p.att
	state := a.link.state()
	if a.tether == nil && state == linkOpen {
		a.tether = newTether(p.m.env, a.link, a.id.Counter(), a.cert, a.session, func() { p.m.kick(p) })
	}
	switch {
	case a.tether != nil && !a.tether.alive():
		p.fail(a.tether.err)
	case a.tether != nil && a.tether.helloed.Load():
		p.promote(a.tether)
	case state == linkDead:
		p.fail(errLinkFailed)
	case !now.Before(a.deadline):
		p.fail(a.late())
	case a.tether == nil && p.sessionHolds(a):
		p.tell(a, now)
	}
}

// sessionHolds reports whether the attempt is with the peer's current session. It asks the Master, once,
// when the first message and its repetition found no answer; if the peer has started anew, the
// attempt starts anew too.
func (p *peer) sessionHolds(a *attempt) bool {
	if a.looked || a.sent < 2 || a.deadline.Equal(a.end) {
		return true
	}
	a.looked = true
	rec, err := p.lookup(true)
	if err != nil || rec.Session == a.session || p.m.check(rec.Certificate) != nil {
		return true
	}
	p.discard()
	if err := p.start(rec); err != nil {
		p.failed(err)
	}
	return false
}

// late says what an attempt that ran out of time was waiting for.
func (a *attempt) late() error {
	switch {
	case a.tether != nil:
		return errNoHello
	case a.deadline.Equal(a.end):
		return errNoPath
	}
	return errUnanswered
}

// tell sends the signalling that is due.
func (p *peer) tell(a *attempt, now time.Time) {
	if a.asking {
		if !now.Before(a.resend) {
			p.again(a)
		}
		return
	}
	cs, complete := a.link.candidates()
	switch {
	case a.body == nil && (complete || !now.Before(a.collect)):
		a.first.Candidates, a.told = cs, len(cs)
		a.body = a.first.Append(nil)
		if a.first.Type == wire.SignalOffer {
			a.offer = sha256.Sum256(a.body)
		}
		p.sendFirst(a)
	case a.body == nil:
	case !now.Before(a.resend):
		a.told = len(cs)
		p.again(a)
	case a.told < len(cs):
		from := a.told
		a.told = len(cs)
		p.sendCandidates(a, cs, from)
	}
}

func (p *peer) sendFirst(a *attempt) {
	a.resend = time.Now().Add(jitter(a.pause))
	a.sent++
	p.send(a.body)
}

// again sends all that may have been lost.
func (p *peer) again(a *attempt) {
	if a.body == nil {
		return
	}
	a.pause = min(2*a.pause, resendLast)
	a.resend = time.Now().Add(jitter(a.pause))
	if !a.replied {
		a.sent++
		p.send(a.body)
	}
	if !a.asking {
		cs, _ := a.link.candidates()
		p.sendCandidates(a, cs, len(a.first.Candidates))
	}
}

func (p *peer) sendCandidates(a *attempt, cs []wire.Candidate, from int) {
	if from >= len(cs) {
		return
	}
	s := p.message(a, wire.SignalCandidate)
	s.First, s.Candidates = uint8(from), cs[from:]
	p.send(s.Append(nil))
}

func (p *peer) send(body []byte) {
	ctx, cancel := context.WithTimeout(p.m.ctx, controlTimeout)
	defer cancel()
	if err := p.m.cfg.Control.Send(ctx, p.id, control.TopicSignal, body); err != nil {
		// It is sent again, as if it had been lost on the way.
		p.m.log.Debug("signalling is not sent", "peer", p.id.Short(), "err", err)
		p.blame(fmt.Errorf("signalling: %w", err))
	}
}

// fail ends the attempt, which did not succeed.
func (p *peer) fail(err error) {
	p.discard()
	p.failed(err)
}

// giveUp ends an attempt that could not begin, and returns err.
func (p *peer) giveUp(err error) error {
	p.discard()
	return err
}

// failed notes that an attempt did not succeed.
func (p *peer) failed(err error) {
	p.m.count.failures.Inc()
	p.m.log.Debug("attempt at a tether failed", "peer", p.id.Short(), "err", err)
	p.later(time.Now())
	p.reject(fmt.Errorf("%w: %w", ErrDown, err), false)
}

// discard ends the attempt and closes its link.
func (p *peer) discard() {
	a := p.att
	p.release()
	switch {
	case a.tether != nil:
		a.tether.end(errNoHello)
		<-a.tether.finished
	case a.link != nil:
		p.m.wg.Go(a.link.close)
	}
}

// release lets go of the attempt, whose link goes on.
func (p *peer) release() {
	p.att = nil
	p.m.mu.Lock()
	p.m.attempts--
	p.m.mu.Unlock()
}
