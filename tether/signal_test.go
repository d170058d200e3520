package tether

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// offerTo makes an offer as from's Manager would, with a counter of the test's choice.
func offerTo(from, to *node, counter byte) *wire.Signal {
	s := &wire.Signal{
		Type: wire.SignalOffer, From: from.id(), To: to.id(), FromSession: from.nonce, ToSession: to.nonce,
		Link: wire.LinkID{7: counter, 8: 1},
	}
	s.Description = testDescription()
	s.Description.Setup = wire.SetupActpass
	s.Candidates = []wire.Candidate{{Type: wire.CandidateHost, Priority: 1, Addr: netip.MustParseAddrPort("127.0.0.1:9")}}
	return s
}

// signalled hands a body to a node as if control had authenticated it as from's.
func signalled(from, to *node, body []byte) {
	to.HandleSignal(control.Message{From: from.own, Session: from.nonce, Topic: control.TopicSignal, Body: body})
}

// TestSignalDrops forces each counter of signalling to 1.
func TestSignalDrops(t *testing.T) {
	for _, tt := range []struct {
		name, drop string
		send       func(low, high *node)
	}{
		{"empty", "signal malformed", func(low, high *node) { signalled(low, high, nil) }},
		{"cut", "signal malformed", func(low, high *node) {
			b := offerTo(low, high, 1).Append(nil)
			signalled(low, high, b[:len(b)-1])
		}},
		{"by another anchor", "signal refused", func(low, high *node) {
			s := offerTo(low, high, 1)
			s.From[3]++
			signalled(low, high, s.Append(nil))
		}},
		{"for another anchor", "signal refused", func(low, high *node) {
			s := offerTo(low, high, 1)
			s.To[3]++
			signalled(low, high, s.Append(nil))
		}},
		{"of another session", "signal refused", func(low, high *node) {
			s := offerTo(low, high, 1)
			s.FromSession[3]++
			signalled(low, high, s.Append(nil))
		}},
		{"for another session", "signal refused", func(low, high *node) {
			s := offerTo(low, high, 1)
			s.ToSession[3]++
			signalled(low, high, s.Append(nil))
		}},
		{"offer by the higher id", "signal refused", func(low, high *node) {
			signalled(high, low, offerTo(high, low, 1).Append(nil))
		}},
		{"ask by the lower id", "signal refused", func(low, high *node) {
			s := offerTo(low, high, 1)
			s.Type = wire.SignalAsk
			signalled(low, high, s.Append(nil))
		}},
		{"answer by the lower id", "signal refused", func(low, high *node) {
			s := offerTo(low, high, 1)
			s.Type, s.Description.Setup = wire.SignalAnswer, wire.SetupActive
			signalled(low, high, s.Append(nil))
		}},
		{"broadcast", "signal refused", func(low, high *node) {
			high.HandleSignal(control.Message{From: low.own, Session: low.nonce, Topic: control.TopicSignal, Broadcast: true, Body: offerTo(low, high, 1).Append(nil)})
		}},
		{"another topic", "signal refused", func(low, high *node) {
			high.HandleSignal(control.Message{From: low.own, Session: low.nonce, Topic: control.TopicHint, Body: offerTo(low, high, 1).Append(nil)})
		}},
		{"queue full", "signal queue full", func(low, high *node) {
			high.mu.Lock()
			p, _ := high.peer(low.id())
			p.running = true // nobody empties the queue
			high.mu.Unlock()
			for i := range signalQueue + 1 {
				signalled(low, high, offerTo(low, high, byte(i+1)).Append(nil))
			}
			high.mu.Lock()
			p.running = false
			high.mu.Unlock()
			high.kick(p)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, low, high := virtual(t, newEther(time.Millisecond), nil)
				tt.send(low, high)
				n := low.drops(tt.drop) + high.drops(tt.drop)
				if n != 1 {
					t.Errorf("%s: %d", tt.drop, n)
				}
				if tt.drop != "signal queue full" {
					synctest.Wait()
					if len(low.peers)+len(high.peers) != 0 {
						t.Error("it began something")
					}
					low.open(high) // it spoiled nothing
				}
			})
		})
	}
}

// TestSignalEveryBit flips every bit of an ask, an offer, an answer and a candidate message that
// a running attempt would take. A flip is counted, or it is in a field that control's
// signature alone protects: then it leads to no tether.
func TestSignalEveryBit(t *testing.T) {
	samples := map[string]*wire.Signal{}
	synctest.Test(t, func(t *testing.T) { // bodies as they really are
		h, low, high := virtual(t, newEther(time.Millisecond), nil)
		h.set(func(h *hub) {
			h.meddle = func(b []byte) []byte {
				if s, err := wire.ParseSignal(b); err == nil {
					samples[s.Type.String()] = s
				}
				return b
			}
		})
		high.open(low)
	})
	if samples["ask"] == nil || samples["offer"] == nil || samples["answer"] == nil {
		t.Fatalf("the set-up sent %v", samples)
	}
	candidate := *samples["answer"]
	candidate.Type = wire.SignalCandidate
	candidate.Candidates = []wire.Candidate{{Type: wire.CandidateHost, Priority: 1, Addr: netip.MustParseAddrPort("127.0.0.1:9")}}
	samples["candidate"] = &candidate
	for name, s := range samples {
		body := s.Append(nil)
		const signed = 2 + 4*32 // what comes behind the header differs in meaning only
		for bit := range len(body) * 8 {
			flipped := bytes.Clone(body)
			flipped[bit/8] ^= 1 << (bit % 8)
			synctest.Test(t, func(t *testing.T) {
				e := newEther(time.Millisecond)
				_, low, high := virtual(t, e, nil)
				from, to := high, low
				if s.Type == wire.SignalOffer {
					from, to = low, high
				}
				from.control.handler = nil // its Manager has no part in this
				signalled(from, to, flipped)
				synctest.Wait()
				st := to.stats.Stage("tether").Snapshot()
				counted := st.Drops["signal malformed"] + st.Drops["signal refused"] + st.Notes["signal stale"]
				if counted != 1 && bit/8 < signed {
					t.Errorf("%s, bit %d: %d counted", name, bit, counted)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if len(to.Neighbors()) != 0 || e.open != 0 {
					t.Errorf("%s, bit %d: %d neighbours, %d link ends", name, bit, len(to.Neighbors()), e.open)
				}
			})
		}
	}
}

// TestLateSignalsBeginNothing repeats all signalling of a tether that was, later.
func TestLateSignalsBeginNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEther(time.Millisecond)
		h, low, high := virtual(t, e, nil)
		type sent struct {
			to   *node
			body []byte
		}
		var all []sent
		h.set(func(h *hub) {
			h.meddle = func(b []byte) []byte {
				s, err := wire.ParseSignal(b)
				if err != nil {
					t.Error(err)
					return b
				}
				to := low
				if identity.ID(s.To) == high.id() {
					to = high
				}
				all = append(all, sent{to, bytes.Clone(b)})
				return b
			}
		})
		again := func(when string) {
			made := e.made
			for _, s := range all {
				from := low
				if s.to == low {
					from = high
				}
				signalled(from, s.to, s.body)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if e.made != made {
				t.Errorf("%s: %d links were made", when, e.made-made)
			}
		}
		n := high.open(low)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(all) < 3 {
			t.Fatalf("%d messages", len(all))
		}
		again("while the tether is up")
		if !n.alive() {
			t.Fatalf("the tether ended: %v", n.err)
		}
		high.Drop(low.id())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		again("when it is gone")
		for range 3 {
			low.open(high)
			low.Drop(high.id())
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
		again("after three more")
		low.noDrops()
		high.noDrops()
	})
}

// TestAttemptBudget has a member ask without end: links are made at a bounded rate, and others
// are not affected.
func TestAttemptBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEther(time.Millisecond)
		h, low, high := virtual(t, e, nil)
		other := newNode(t, h, members()[2], nil)
		other.maker = e.maker
		low.control.handler = nil
		start := time.Now()
		for i := range 1000 {
			s := offerTo(low, high, 0)
			s.Link[6], s.Link[7] = byte((i+1)>>8), byte(i+1)
			signalled(low, high, s.Append(nil))
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		most := burstAttempts + int(time.Since(start)/attemptEvery) + 1
		if e.made > most {
			t.Errorf("%d links were made, at most %d should be", e.made, most)
		}
		if high.drops("signal refused") == 0 {
			t.Error("nothing was refused")
		}
		took := time.Now()
		other.open(high)
		if d := time.Since(took); d > 100*time.Millisecond {
			t.Errorf("another member waited %v", d)
		}
	})
}

// TestSeenIsBounded remembers peers without tether in bounded memory.
func TestSeenIsBounded(t *testing.T) {
	m := &Manager{seen: make(map[identity.ID]seen)}
	for i := range 3 * maxSeen {
		m.remember(identity.ID{byte(i), byte(i >> 8), byte(i >> 16)}, seen{offer: uint64(i)})
	}
	if len(m.seen) != maxSeen {
		t.Errorf("%d are remembered", len(m.seen))
	}
	m.remember(identity.ID{1}, seen{offer: 1})
	before := len(m.seen)
	m.remember(identity.ID{1}, seen{offer: 2})
	if m.seen[identity.ID{1}].offer != 2 || len(m.seen) != before {
		t.Error("a peer known already is not replaced")
	}
}

// TestAnswerContradictsAsk: what an ask says of its side must stand in the answer.
func TestAnswerContradictsAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEther(time.Millisecond)
		h, low, high := virtual(t, e, nil)
		e.set(true) // no link opens
		h.set(func(h *hub) {
			h.meddle = func(b []byte) []byte {
				if s, err := wire.ParseSignal(b); err == nil && s.Type == wire.SignalAnswer {
					s.Description.Fingerprint[5]++
					return s.Append(nil)
				}
				return b
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := high.Open(ctx, low.id()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open returned %v", err)
		}
		if low.drops("signal refused") == 0 {
			t.Error("the answer was not refused")
		}
		e.set(false)
	})
}
