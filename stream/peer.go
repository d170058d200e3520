package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veil-net/anchor/identity"
)

// peer is the sending side toward one anchor: the stream in use, the one that takes over from
// it, and the users that hold it. Its goroutine, keep, opens, rotates and closes streams.
type peer struct {
	e  *Endpoint
	id identity.ID

	mu      sync.Mutex
	uses    int           // Senders open
	waiting int           // calls that wait for a stream
	current *outbound     // takes new messages; nil if there is none
	fault   error         // why the last opening failed; nil after success
	final   bool          // waiting does not cure fault
	changed chan struct{} // closed, and made anew, when any of current, fault and ended changes
	ended   bool          // keep has returned, or never ran

	// What follows is keep's own.
	draining []*outbound // closed, not all acknowledged
	opening  bool        // an opening is under way
	results  chan opened // of openings; capacity 1, as one is under way at most

	wake  chan struct{} // tells keep to look again
	dozes atomic.Bool   // keep looks again only after dozeTime
}

const (
	// watchTime is how often keep looks at a stream with messages under way, dozeTime at one
	// without.
	watchTime = 50 * time.Millisecond
	dozeTime  = time.Second
	// retryMin and retryMax bound the wait between failed openings.
	retryMin = 50 * time.Millisecond
	retryMax = 2 * time.Second
)

func newPeer(e *Endpoint, id identity.ID) *peer {
	return &peer{
		e: e, id: id,
		changed: make(chan struct{}), wake: make(chan struct{}, 1), results: make(chan opened, 1),
	}
}

func (p *peer) retain() {
	p.mu.Lock()
	p.uses++
	p.mu.Unlock()
}

func (p *peer) release() {
	p.mu.Lock()
	p.uses--
	p.mu.Unlock()
	p.nudge()
}

// nudge makes keep look again.
func (p *peer) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// change publishes a change to those who wait. Called with mu held.
func (p *peer) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// established waits for a stream that takes messages. not is a stream that turned out to take
// none any more, or nil.
func (p *peer) established(ctx context.Context, not *outbound) (*outbound, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && p.current == not {
		p.current = nil
	}
	if p.current == nil && p.final { // what was final then may not be now: one try for each call
		p.final = false
	}
	p.waiting++
	defer func() { p.waiting-- }()
	for p.current == nil || p.ended {
		switch {
		case p.ended:
			return nil, fmt.Errorf("stream: send to %s: %w", p.id.Short(), net.ErrClosed)
		case p.final:
			return nil, p.fault
		}
		changed := p.changed
		p.mu.Unlock()
		p.nudge()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		p.mu.Lock()
		if err != nil {
			return nil, p.waitError(err)
		}
	}
	return p.current, nil
}

// waitError says what a wait was for when it was cut short. Called with mu held.
func (p *peer) waitError(err error) error {
	if p.fault != nil && !errors.Is(p.fault, err) {
		return fmt.Errorf("stream: open to %s: %w (%w)", p.id.Short(), err, p.fault)
	}
	return fmt.Errorf("stream: open to %s: %w", p.id.Short(), err)
}

// Send implements Sender.
func (p *peer) Send(ctx context.Context, b *Batch) error {
	var last *outbound
	for {
		o, err := p.established(ctx, last)
		if err != nil {
			b.Release()
			return err
		}
		if err := o.send(ctx, b); !errors.Is(err, errRetired) {
			return err
		}
		last = o // it took no message any more; b is still ours
	}
}

// keep is the peer's goroutine. It ends when nobody uses the peer and its stream has closed, or
// with the Endpoint.
func (p *peer) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer p.finish()
	var retry backoff
	for {
		select {
		case <-timer.C:
		case <-p.wake:
		case r := <-p.results:
			p.settleOpening(r, &retry)
		case <-p.e.life.Done():
			return
		}
		next, done := p.step(time.Now(), &retry)
		if done {
			return
		}
		p.dozes.Store(next >= dozeTime)
		timer.Reset(next)
	}
}

// step does what is due and says when to look again, or that there is nothing left to keep.
func (p *peer) step(now time.Time, retry *backoff) (next time.Duration, done bool) {
	p.mu.Lock()
	o, wanted, uses := p.current, p.waiting > 0, p.uses
	p.mu.Unlock()
	p.settleDraining(now)
	if o == nil {
		switch {
		case p.opening:
			return watchTime, false
		case wanted && retry.due(now):
			p.begin(nil)
			return watchTime, false
		case wanted:
			return retry.left(now), false
		case len(p.draining) > 0:
			return watchTime, false
		}
		return dozeTime, uses == 0 && p.leave()
	}
	switch o.decide(now, p.opening) {
	case taskRestart:
		p.e.count.restarts.Inc()
		p.begin(o)
	case taskRotate:
		if retry.due(now) {
			p.e.count.rotations.Inc()
			p.begin(o)
		}
	case taskClose:
		p.retire(o, nil)
	case taskProbe:
		o.probe()
	}
	o.repair(now)
	if o.busy() || p.opening || len(p.draining) > 0 {
		return watchTime, false
	}
	return dozeTime, false
}

// settleDraining repairs the streams that were closed, and forgets those that are done.
func (p *peer) settleDraining(now time.Time) {
	p.draining = slices.DeleteFunc(p.draining, func(o *outbound) bool {
		o.repair(now)
		if o.busy() {
			return false
		}
		o.end(nil)
		return true
	})
}

// opened is the result of an opening.
type opened struct {
	old *outbound // to be replaced; may be nil
	o   *outbound
	err error
}

// begin opens a stream beside old, which may be nil, in a goroutine of its own: what is under
// way on old needs care meanwhile.
func (p *peer) begin(old *outbound) {
	p.opening = true
	p.e.wg.Go(func() {
		o, err := p.open(p.e.life, old)
		p.results <- opened{old, o, err}
	})
}

// settleOpening puts a new stream in the place of the old one: make before break.
func (p *peer) settleOpening(r opened, retry *backoff) {
	p.opening = false
	if r.err == nil {
		retry.succeeded()
		p.retire(r.old, r.o)
		return
	}
	p.e.cfg.Logger.Debug("stream not opened", "peer", p.id.Short(), "err", r.err)
	p.mu.Lock()
	p.fault, p.final = r.err, isFinal(r.err)
	p.change()
	p.mu.Unlock()
	retry.failed(time.Now())
}

// retire takes old out of use, puts o (or nothing) in its place, and closes old.
func (p *peer) retire(old, o *outbound) {
	p.mu.Lock()
	if p.current == old || p.current == nil {
		p.current = o
	}
	p.fault, p.final = nil, false
	p.change()
	p.mu.Unlock()
	if old != nil {
		old.close(p.e.life)
		p.draining = append(p.draining, old)
	}
}

// lose takes a stream that has ended by itself out of use.
func (p *peer) lose(o *outbound, err error) {
	p.mu.Lock()
	if p.current == o {
		p.current = nil
		p.fault, p.final = err, isFinal(err)
		p.change()
	}
	p.mu.Unlock()
	p.nudge()
}

// leave removes the peer from the Endpoint unless somebody has taken it up again.
func (p *peer) leave() bool {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.uses > 0 || p.current != nil {
		return false
	}
	if p.e.peers[p.id] == p {
		delete(p.e.peers, p.id)
	}
	return true
}

// finish runs when keep returns. An opening under way ends with the Endpoint.
func (p *peer) finish() {
	if p.opening {
		if r := <-p.results; r.o != nil {
			r.o.end(net.ErrClosed)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.change()
}

// isFinal reports whether trying again soon cannot cure an error.
func isFinal(err error) bool {
	return errors.Is(err, ErrNotAllowed) || errors.Is(err, identity.ErrRevoked) ||
		errors.Is(err, identity.ErrExpired) || errors.Is(err, identity.ErrNotYetValid) ||
		errors.Is(err, net.ErrClosed)
}

// backoff spaces failed openings.
type backoff struct {
	wait time.Duration
	at   time.Time // no try before; zero: at once
}

func (b *backoff) due(now time.Time) bool { return !now.Before(b.at) }

func (b *backoff) left(now time.Time) time.Duration { return max(b.at.Sub(now), time.Millisecond) }

func (b *backoff) failed(now time.Time) {
	b.wait = min(max(2*b.wait, retryMin), retryMax)
	b.at = now.Add(b.wait)
}

func (b *backoff) succeeded() { *b = backoff{} }
