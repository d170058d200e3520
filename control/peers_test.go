package control

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// fake returns a record of anchor n without signatures: the table verifies none.
func fake(n int, session byte, counter uint64) *identity.Record {
	id := identity.ID{byte(n), byte(n >> 8), 1}
	return &identity.Record{
		Certificate: &identity.Certificate{ID: id, Name: fmt.Sprint("a", n), Serial: uint64(n)},
		Current:     identity.EpochKey{Epoch: 10, Tag: identity.Tag{byte(n), byte(n >> 8), 10}},
		Previous:    identity.EpochKey{Epoch: 9, Tag: identity.Tag{byte(n), byte(n >> 8), 9}},
		Session:     identity.Nonce{session}, Counter: counter,
	}
}

// TestCacheIsBounded: of many records those used last are kept; of the others what guards against
// replays.
func TestCacheIsBounded(t *testing.T) {
	tab := newPeerTable()
	first := fake(0, 1, 1)
	tab.offer(first)
	in := &inbound{sender: first.ID(), header: wire.ControlHeader{Session: first.Session, Counter: 7}}
	if fresh, ok := tab.take(in); !fresh || !ok {
		t.Fatal("the first message is refused")
	}
	second := fake(1, 1, 1)
	tab.offer(second)
	for n := 2; n < maxRecords+100; n++ {
		tab.offer(fake(n, 1, 1))
		if r, _ := tab.cached(Key{ID: second.ID()}); r == nil {
			t.Fatalf("after %d: a record in use was forgotten", n)
		}
	}
	if n := len(tab.records.items); n >= maxRecords+1 || n < maxRecords-1 {
		t.Errorf("%d records cached", n)
	}
	if len(tab.names) != len(tab.records.items) || len(tab.tags) != 2*len(tab.records.items) {
		t.Errorf("%d names and %d tags for %d records", len(tab.names), len(tab.tags), len(tab.records.items))
	}
	for _, key := range []Key{{ID: first.ID()}, {Name: "a0"}, {Tag: first.Current.Tag}} {
		if r, _ := tab.cached(key); r != nil {
			t.Errorf("%v is still cached", key)
		}
	}
	if fresh, ok := tab.take(in); fresh || !ok {
		t.Error("a replay passes after the record was forgotten")
	}
	if v, _, _ := tab.offer(first); v != admitted {
		t.Errorf("the record is not taken back: %v", v)
	}
	if r, _ := tab.cached(Key{Name: "a0"}); r != first {
		t.Error("the record taken back is not cached")
	}
	if v, _, _ := tab.offer(fake(0, 1, 0)); v != outdated {
		t.Errorf("an older record of the session: %v", v)
	}
}

// TestCandidatesAreBounded: so many sessions are under challenge at a time, and no more.
func TestCandidatesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := newPeerTable()
		var last *candidate
		for n := range maxCandidates + 1 {
			tab.offer(fake(n, 1, 1))
			tab.take(&inbound{sender: fake(n, 1, 1).ID(), header: wire.ControlHeader{Session: identity.Nonce{1}}})
			v, next, begin := tab.offer(fake(n, 2, 2))
			if want := n < maxCandidates; (v == pending) != want || begin != want {
				t.Fatalf("candidate %d: %v", n, v)
			}
			if next != nil {
				last = next
			}
		}
		id := last.record.ID()
		if _, ok := tab.answered(id, identity.Nonce{2}, make([]byte, 32)); ok {
			t.Error("a wrong answer is taken")
		}
		if _, ok := tab.answered(id, identity.Nonce{3}, last.secret[:]); ok {
			t.Error("another session's answer is taken")
		}
		if _, ok := tab.answered(id, identity.Nonce{2}, last.secret[:]); !ok {
			t.Error("the answer is not taken")
		}
		<-last.done
		if v, _, _ := tab.offer(fake(maxCandidates, 2, 2)); v != pending {
			t.Errorf("with one place free: %v", v)
		}
		// A newer session takes the place of an older one under challenge, not the other way round.
		v, next, begin := tab.offer(fake(0, 3, 3))
		if v != pending || !begin {
			t.Errorf("a newer candidate: %v", v)
		}
		if v, _, _ := tab.offer(fake(0, 2, 2)); v != refused {
			t.Errorf("an older candidate: %v", v)
		}
		time.Sleep(silence)
		if held, ok := tab.giveUp(next); !ok || len(held) != 0 {
			t.Error("after 10 s of silence the newer session is not admitted")
		}
	})
}

// TestNamesMove: a name belongs to the higher serial, in whichever order the records come.
func TestNamesMove(t *testing.T) {
	low, high := fake(1, 1, 1), fake(2, 1, 1)
	high.Certificate.Name = low.Certificate.Name
	for _, order := range [][]*identity.Record{{low, high}, {high, low}} {
		tab := newPeerTable()
		for _, r := range order {
			tab.offer(r)
		}
		if r, _ := tab.cached(Key{Name: low.Certificate.Name}); r != high {
			t.Errorf("the name is %v's", r.Certificate.Serial)
		}
	}
}
