package control

import (
	"context"
	"time"

	"github.com/veil-net/anchor/identity"
)

// challengeAfter are the pauses after each sending of a challenge. After the last it is given up.
func challengeAfter() []time.Duration {
	return []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, 1250 * time.Millisecond}
}

// beginChallenge asks a candidate's session whether it is there, in a goroutine of its own.
func (c *channel) beginChallenge(next *candidate) {
	c.count.challenges.Inc()
	if !c.spawn(func() { c.challenge(next) }) {
		c.peers.giveUp(next)
	}
}

func (c *channel) challenge(next *candidate) {
	for _, pause := range challengeAfter() {
		if l, err := c.connected(); err == nil {
			if err := c.sendInternal(c.ctx, l, next.record, topicChallenge, next.secret[:]); err != nil {
				c.log.Debug("cannot challenge", "anchor", next.record.ID().Short(), "err", err)
			}
		}
		t := time.NewTimer(pause)
		select {
		case <-next.done:
			t.Stop()
			return
		case <-c.ctx.Done():
			t.Stop()
			c.peers.giveUp(next)
			return
		case <-t.C:
		}
	}
	held, ok := c.peers.giveUp(next)
	for _, in := range held {
		if !ok || !c.lanes.put(in) {
			c.count.unknownSession.Inc()
		}
	}
}

// answerChallenge tells a session that this one is there. It need not be admitted.
func (c *channel) answerChallenge(r *identity.Record, in *inbound) {
	body, err := c.openBox(in)
	if err != nil {
		c.count.forged.Inc()
		return
	}
	if c.peers.allowAnswer(in.sender) {
		c.answer(r, body)
	}
}

func (c *channel) answer(r *identity.Record, body []byte) {
	if len(body) != 32 {
		c.count.malformed.Inc()
		return
	}
	if l, err := c.connected(); err == nil {
		if err := c.sendInternal(c.ctx, l, r, topicAnswer, body); err != nil {
			c.log.Debug("cannot answer a challenge", "anchor", r.ID().Short(), "err", err)
		}
	}
}

// takeAnswer admits the session that answered, and delivers what was held for it.
func (c *channel) takeAnswer(r *identity.Record, in *inbound) {
	body, err := c.openBox(in)
	if err != nil {
		c.count.forged.Inc()
		return
	}
	held, ok := c.peers.answered(in.sender, in.header.Session, body)
	if !ok {
		return // answered before, or too late
	}
	c.peers.take(in) // what came before it is no news, the answer itself no more either
	for _, h := range held {
		c.deliver(r, h)
	}
}

// correct tells a sender which session of this anchor is the present one, or which epoch: the
// message carries the record. Corrections are not corrected, so they cannot go back and forth.
func (c *channel) correct(r *identity.Record, in *inbound) {
	if in.topic == topicCorrection || in.topic == topicAnswer || !c.corrections.allow() {
		return
	}
	l, err := c.connected()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, kvLimit)
	defer cancel()
	c.count.corrected.Inc()
	if err := c.sendInternal(ctx, l, r, topicCorrection, in.direct.ReceiverSession[:]); err != nil {
		c.log.Debug("cannot correct", "anchor", r.ID().Short(), "err", err)
	}
}
