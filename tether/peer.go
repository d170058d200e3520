package tether

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/wire"
)

const (
	// signalQueue is how many signalling messages of one peer wait; more are dropped, since what
	// matters is sent again.
	signalQueue = 64
	// maxFailures is how many failed attempts Open waits for.
	maxFailures = 3
	// retryFirst and retryLast bound the pause between attempts, which doubles.
	retryFirst, retryLast = 100 * time.Millisecond, 2 * time.Second
	// controlTimeout bounds one call of the control channel.
	controlTimeout = 2 * time.Second
	// A tether that died within recentTraffic of its last message is set up again for up to
	// reviveFor without being asked. A silent one has been dying for some seconds before.
	recentTraffic, reviveFor = 10 * time.Second, 30 * time.Second
	// awayPoll is how often the control channel is looked at while the Master is away.
	awayPoll = 250 * time.Millisecond
	// A peer may begin burstAttempts attempts at once, and one more each attemptEvery.
	burstAttempts, attemptEvery = 16, 250 * time.Millisecond
	// maxSeen is for how many peers without tether a Manager remembers what they sent last.
	maxSeen = 4096
)

var errTooMany = errors.New("too many attempts at the same time")

// peer is all that a Manager has to do with one anchor. A goroutine, run, does it while there is
// something to do; it alone calls the Receiver's Up and Down for this anchor.
type peer struct {
	m        *Manager
	id       identity.ID
	offering bool // ours is the lower id
	events   *queue.Queue[event]
	wake     chan struct{}

	// Guarded by Manager.mu.
	running, gone bool
	waiters       map[*waiter]struct{}
	fault         error // why it has not worked so far, for Open

	// Of run.
	cur      *tether
	att      *attempt
	seen     seen
	failures int       // attempts that failed since the last success
	retryAt  time.Time // not before then
	revive   time.Time // until then without being asked
}

// event is something that happened to a peer: a signalling message, or that sessions end.
type event struct {
	signal *wire.Signal
	cert   *identity.Certificate
	end    func(identity.Nonce) bool
}

// waiter is one Open. done is closed after tether or err is set, under Manager.mu.
type waiter struct {
	left   int // failures that it still waits for
	done   chan struct{}
	tether *tether
	err    error
}

// seen is what a peer sent last, so that what comes late or twice does not begin anything.
type seen struct {
	session    identity.Nonce
	offer, ask uint64 // highest counters
	budget     float64
	budgetAt   time.Time
}

// of returns what was seen of a session: nothing if it is another one.
func (s *seen) of(session identity.Nonce) *seen {
	if s.session != session {
		s.session, s.offer, s.ask = session, 0, 0
	}
	return s
}

// spend takes an attempt out of the peer's budget.
func (s *seen) spend(now time.Time) bool {
	if s.budgetAt.IsZero() {
		s.budget = burstAttempts
	} else {
		s.budget = min(burstAttempts, s.budget+now.Sub(s.budgetAt).Seconds()/attemptEvery.Seconds())
	}
	s.budgetAt = now
	if s.budget < 1 {
		return false
	}
	s.budget--
	return true
}

// refund gives an attempt back that led to a tether.
func (s *seen) refund() { s.budget = min(burstAttempts, s.budget+1) }

func newPeer(m *Manager, id identity.ID, offering bool, s seen) *peer {
	return &peer{
		m: m, id: id, offering: offering, seen: s,
		events: queue.New[event](m.cfg.Queues, queue.Config{
			Name: "tether.signal", Capacity: signalQueue, Unit: "messages", Policy: queue.Drop,
		}, nil),
		wake:    make(chan struct{}, 1),
		waiters: make(map[*waiter]struct{}),
	}
}

// run is the peer's goroutine.
func (p *peer) run() {
	defer p.m.wg.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := p.step(time.Now())
		if p.leave() {
			return
		}
		timer.Reset(time.Until(next))
		select {
		case <-p.events.Ready():
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// step does what is to be done now, and returns when to look again at the latest.
func (p *peer) step(now time.Time) time.Time {
	if p.m.ctx.Err() != nil {
		p.shutdown()
		return now
	}
	var one [1]event
	for p.events.TryPop(one[:]) == 1 {
		p.handle(one[0])
	}
	if p.cur != nil && !p.cur.alive() {
		p.lost(now)
	}
	if p.att != nil {
		p.advance(now)
	}
	if p.att == nil && p.wanted(now) && !now.Before(p.retryAt) {
		p.begin(now)
	}
	switch {
	case p.att != nil:
		return p.att.next()
	case p.wanted(now):
		return p.retryAt
	}
	return now.Add(time.Hour)
}

// wanted reports whether somebody waits for a tether, or traffic does. Those who wait while one is up
// get it.
func (p *peer) wanted(now time.Time) bool {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	if p.cur != nil && p.cur.alive() {
		p.resolve(p.cur)
		return false
	}
	return len(p.waiters) > 0 || now.Before(p.revive)
}

// resolve gives all waiters a tether. The caller holds Manager.mu.
func (p *peer) resolve(t *tether) {
	for w := range p.waiters {
		w.tether = t
		close(w.done)
	}
	clear(p.waiters)
}

// reject gives up for now. Waiters get the error if it is final or they have waited for enough
// attempts.
func (p *peer) reject(err error, final bool) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	p.fault = err
	for w := range p.waiters {
		if w.left--; w.left > 0 && !final {
			continue
		}
		w.err = err
		close(w.done)
		delete(p.waiters, w)
	}
}

// leave ends the goroutine if there is nothing to do for it, and the peer with it if it has no
// tether. Whoever brings something later starts it again.
func (p *peer) leave() bool {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.att != nil || len(p.waiters) > 0 || p.events.Len() > 0 || time.Now().Before(p.revive) ||
		p.cur != nil && (!p.cur.alive() || m.closed) {
		return false
	}
	p.running = false
	if p.cur == nil {
		p.gone = true
		delete(m.peers, p.id)
		p.events.Close()
		m.remember(p.id, p.seen)
	}
	return true
}

// remember keeps what a peer sent last. The caller holds mu.
func (m *Manager) remember(id identity.ID, s seen) {
	if _, ok := m.seen[id]; !ok && len(m.seen) >= maxSeen {
		for other := range m.seen { // any
			delete(m.seen, other)
			break
		}
	}
	m.seen[id] = s
}

// handle takes one event.
func (p *peer) handle(e event) {
	if e.end == nil {
		p.signalled(e.signal, e.cert)
		return
	}
	p.revive = time.Time{}
	if p.cur != nil && e.end(p.cur.session) {
		p.cur.end(errEnded)
	}
	if p.att != nil && e.end(p.att.session) {
		p.discard()
		p.failures++ // whoever still wants a tether asks the Master which session is the current one
	}
}

// begin makes an attempt of our own accord.
func (p *peer) begin(now time.Time) {
	if !p.m.cfg.Control.Connected() {
		p.postpone(now, control.ErrNotReady)
		return
	}
	rec, err := p.lookup(p.failures > 0)
	if err == nil {
		err = p.m.check(rec.Certificate)
	}
	switch {
	case p.m.ctx.Err() != nil || p.events.Len() > 0:
		return // closed, or the peer has signalled meanwhile: that comes first
	case errors.Is(err, control.ErrNotReady) || errors.Is(err, context.DeadlineExceeded):
		p.postpone(now, err)
		return
	case err != nil:
		p.revive = time.Time{}
		p.later(now)
		p.reject(err, true)
		return
	}
	switch err := p.start(rec); {
	case errors.Is(err, errTooMany):
		p.postpone(now, err)
	case err != nil:
		p.failed(err)
	}
}

// start makes an attempt with the session of a record.
func (p *peer) start(rec *identity.Record) error {
	if p.offering {
		return p.offer(rec.Certificate, rec.Session, nil)
	}
	return p.ask(rec.Certificate, rec.Session)
}

// postpone waits for something that is no fault of the peer's.
func (p *peer) postpone(now time.Time, why error) {
	p.retryAt = now.Add(jitter(awayPoll))
	p.blame(why)
}

// blame notes why it does not work, for those who give up waiting.
func (p *peer) blame(err error) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	p.fault = err
}

// lookup finds the peer's record: the Master's if fresh is set, because the peer may have
// started anew, else the one we know if there is one.
func (p *peer) lookup(fresh bool) (*identity.Record, error) {
	key := control.Key{ID: p.id}
	ctx, cancel := context.WithTimeout(p.m.ctx, controlTimeout)
	defer cancel()
	rec, err := p.m.cfg.Control.Lookup(ctx, key, fresh)
	if err == nil || errors.Is(err, control.ErrUnknown) {
		return rec, err
	}
	if known, ok := p.m.cfg.Control.Cached(key); ok && p.m.cfg.Verifier.Check(known.Certificate) == nil {
		return known, nil
	}
	return nil, err
}

// later sets when to try again.
func (p *peer) later(now time.Time) {
	p.failures++
	pause := min(retryFirst<<min(p.failures-1, 8), retryLast)
	p.retryAt = now.Add(jitter(pause))
}

// jitter spreads pauses over 80 to 120 %, so that two ends do not stay in step.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// promote makes an attempt's tether the tether to this peer.
func (p *peer) promote(t *tether) {
	if p.cur != nil {
		p.cur.end(errReplaced)
		p.down()
	}
	p.release()
	p.seen.refund()
	p.cur, p.failures, p.revive = t, 0, time.Time{}
	p.m.log.Info("tether is up", "peer", t.id.Short(), "name", t.cert.Name)
	p.m.cfg.Receiver.Up(t)
	p.m.mu.Lock()
	p.fault = nil
	p.m.publish(p.id, t)
	p.resolve(t)
	p.m.mu.Unlock()
	t.admit()
}

// down waits until the tether has ended in full and tells the Receiver.
func (p *peer) down() {
	t := p.cur
	p.cur = nil
	<-t.finished
	p.m.mu.Lock()
	p.m.publish(p.id, nil)
	p.m.mu.Unlock()
	p.m.log.Info("tether is down", "peer", t.id.Short(), "why", t.err)
	p.m.cfg.Receiver.Down(t)
}

// lost handles the end of the tether. One that died of itself under traffic is set up anew.
func (p *peer) lost(now time.Time) {
	t := p.cur
	p.down()
	if errors.Is(t.err, errIdle) || errors.Is(t.err, errEnded) || p.m.check(t.cert) != nil {
		return
	}
	if now.Sub(t.lastMessage()) < recentTraffic {
		p.revive = now.Add(reviveFor)
		p.retryAt = now
	}
}

// shutdown ends everything, for Close.
func (p *peer) shutdown() {
	if p.att != nil {
		p.discard()
	}
	if p.cur != nil {
		p.cur.end(context.Cause(p.m.ctx))
		p.down()
	}
	p.revive = time.Time{}
	var one [1]event
	for p.events.TryPop(one[:]) == 1 {
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	for w := range p.waiters {
		w.err = context.Cause(p.m.ctx)
		close(w.done)
	}
	clear(p.waiters)
}
