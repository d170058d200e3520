package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

const (
	// attemptLimit bounds one attempt to connect, find the buckets and, at the start, announce.
	attemptLimit = 15 * time.Second
	// presenceEvery is how often presence is shown, 20 % more or less.
	presenceEvery = 30 * time.Second
	// freshFor is how long a new directory may be incomplete.
	freshFor = 15 * time.Second
	// announceSpread and freshSpread are the longest random delays of an announcement after a
	// reconnection: to a directory that has the old one, and to one that has none.
	announceSpread = 5 * time.Second
	freshSpread    = time.Second
	// lossesEvery is how often the fabric is asked what it lost.
	lossesEvery = 5 * time.Second
	// retryEvery is the pause after a write to the directory failed; maxFailures in a row end the
	// connection.
	retryEvery  = time.Second
	maxFailures = 3
)

// run keeps the Channel connected until it ends. It says once on ready how starting went.
func (c *channel) run(ready chan<- error) {
	b := backoff{rnd: c.rnd}
	starting := true
	for c.ctx.Err() == nil {
		l, err := c.connect(starting)
		if err == nil {
			if starting {
				starting = false
				ready <- nil
			} else {
				c.count.reconnects.Inc()
			}
			err = c.serve(l)
			c.unlink(l, err)
			b.lasted(time.Since(l.since))
		}
		c.setFault(err)
		if starting && final(err) {
			ready <- err
			return
		}
		c.pause(b.wait())
	}
	if starting {
		ready <- context.Cause(c.ctx)
	}
}

// final reports whether trying again cannot help.
func final(err error) bool {
	for _, e := range []error{ErrConfig, identity.ErrRevoked, identity.ErrExpired, identity.ErrNotYetValid} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (c *channel) setFault(err error) {
	c.mu.Lock()
	c.fault = err
	c.mu.Unlock()
	c.log.Debug("not connected to the Master", "url", c.fabric, "err", err)
}

// pause waits, or until the Channel ends.
func (c *channel) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
	}
}

// connect makes a link ready to send and receive. At the start it announces at once: the caller waits.
func (c *channel) connect(starting bool) (*link, error) {
	ctx, cancel := context.WithTimeout(c.ctx, attemptLimit)
	defer cancel()
	if err := c.checkOwn(); err != nil {
		return nil, err
	}
	conn, err := c.fabric.Connect(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: conn, since: time.Now(), subs: make(map[uint32][]func()), watched: make(map[uint32]bool), changed: make(chan struct{}, 1)}
	if err = c.prepare(ctx, l); err == nil {
		c.link.Store(l)
		if starting {
			err = c.announce(ctx, l, starting)
		}
	}
	if err != nil {
		c.link.Store(nil)
		conn.Close()
		return nil, c.named(err)
	}
	return l, nil
}

// named puts the Master's URL before a fault.
func (c *channel) named(err error) error { return fmt.Errorf("%v: %w", c.fabric, err) }

// prepare subscribes and reads the revocation list.
func (c *channel) prepare(ctx context.Context, l *link) error {
	record := wire.ControlHeaderSize + wire.SealOverhead + 1 + len(c.sess.Record().Raw)
	if n := l.MaxPayload(); n < record {
		return fmt.Errorf("%w: %w: the Master takes %d bytes, a record has %d", ErrConfig, ErrTooLarge, n, record)
	}
	c.maxBody.Store(int64(min(wire.MaxControlBody, l.MaxPayload()-wire.ControlDirectOverhead)))
	c.fresh.Store(0)
	if age := l.Age(); age < freshFor {
		c.fresh.Store(time.Now().Add(-age).UnixNano())
	}
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	err := c.subscribe(l)
	c.passTurn()
	if err != nil {
		return err
	}
	return c.readList(ctx, l)
}

// subscribe makes l's subscriptions those of the generations in use. The caller has the turn.
func (c *channel) subscribe(l *link) error {
	keys := c.generations()
	for g, cancels := range l.subs {
		if !slices.ContainsFunc(keys, func(k *realmKeys) bool { return k.generation == g }) {
			for _, cancel := range cancels {
				cancel()
			}
			delete(l.subs, g)
		}
	}
	for _, k := range keys {
		if l.subs[k.generation] != nil {
			continue
		}
		one, err := l.Subscribe(k.toSubject(c.id), func(m []byte) { c.receive(m, false) })
		if err != nil {
			return err
		}
		all, err := l.Subscribe(k.hintSubjects(), func(m []byte) { c.receive(m, true) })
		if err != nil {
			return err
		}
		l.subs[k.generation] = []func(){one, all}
	}
	return nil
}

// serve does what a connected Channel has to do from time to time, until the connection or the
// Channel ends.
func (c *channel) serve(l *link) error {
	fresh := l.Age() < freshFor
	c.emit(Event{Connected: true, Fresh: fresh})
	c.log.Info("connected to the Master", "url", c.fabric, "fresh", fresh)

	announce, presence, losses := time.NewTimer(0), time.NewTimer(c.rnd.around(presenceEvery, 0.2)), time.NewTicker(lossesEvery)
	defer announce.Stop()
	defer presence.Stop()
	defer losses.Stop()
	if l.announced.Load() == nil {
		announce.Reset(c.announceDelay(fresh))
	}
	for failures := 0; ; {
		var err error
		select {
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-l.Done():
			return l.Err()
		case <-losses.C:
			c.countLosses(l)
			continue
		case <-l.changed:
			err = c.ownChanged(c.ctx, l)
		case <-c.again:
			if l.announced.Load() != nil { // else it is about to be announced
				announce.Reset(c.rnd.upTo(announceSpread)) // others may have the same reason
			}
			continue
		case <-announce.C:
			err = c.announceWatched(l)
		case <-presence.C:
			err = c.beat(l)
			presence.Reset(c.rnd.around(presenceEvery, 0.2))
		}
		if err == nil {
			failures = 0
			continue
		}
		c.log.Debug("cannot write to the directory", "url", c.fabric, "err", err)
		if failures++; failures == maxFailures {
			return c.named(err)
		}
		announce.Reset(c.rnd.around(retryEvery, 0.5))
	}
}

// announceDelay is how long to wait after a reconnection, so that not all members announce at
// once: longer if the directory still has what was announced before.
func (c *channel) announceDelay(fresh bool) time.Duration {
	if fresh {
		return c.rnd.upTo(freshSpread)
	}
	return c.rnd.upTo(announceSpread)
}

// announceWatched announces if need be, and then watches the own record.
func (c *channel) announceWatched(l *link) error {
	if l.announced.Load() != c.sess.Record() {
		if err := c.announce(c.ctx, l, false); err != nil {
			return err
		}
	}
	return c.watchOwn(c.ctx, l)
}

// beat shows presence, and looks after what may have been missed.
func (c *channel) beat(l *link) error {
	if err := c.checkOwn(); err != nil {
		return err
	}
	if err := c.showPresence(c.ctx, l); err != nil {
		return err
	}
	if err := c.readList(c.ctx, l); err != nil {
		return err
	}
	return c.announceWatched(l)
}

// unlink takes a link out of use.
func (c *channel) unlink(l *link, err error) {
	c.link.Store(nil)
	c.countLosses(l)
	l.Close()
	c.countLosses(l)
	c.emit(Event{Err: err})
	if c.ctx.Err() == nil {
		c.log.Warn("lost the Master", "url", c.fabric, "err", err)
	}
}

func (c *channel) countLosses(l *link) {
	n := l.Dropped()
	c.count.slow.Add(n - l.counted)
	l.counted = n
}

// checkOwn ends the Channel if the own certificate is not in force any more.
func (c *channel) checkOwn() error {
	err := c.verifier.Check(c.own)
	if err != nil {
		err = fmt.Errorf("control: own certificate: %w", err)
		c.finish(err)
	}
	return err
}

// takeTurn waits until nobody else announces; passTurn lets the next one.
func (c *channel) takeTurn(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

func (c *channel) passTurn() { <-c.turn }
