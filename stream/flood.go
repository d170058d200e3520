package stream

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/veil-net/anchor/identity"
)

// The limits that bound what opens can cost (protocol section 3, "Floods").
const (
	openRate         = 500              // opens a second for the whole node, shared fairly by neighbours
	initiatorRate    = 10               // verified opens a second from one initiator
	initiatorPending = 16               // unconfirmed streams of one initiator
	pendingMax       = 1024             // unconfirmed streams in all
	pendingLife      = 10 * time.Second // how long a stream may stay unconfirmed
	limiterLife      = 10 * time.Second // how long an idle bucket is remembered; all are full again by then
	limiterMax       = 4096             // buckets of one kind
)

// floodgate decides which opens are worth a decapsulation and which initiators may have one
// more stream. It is a pure machine: time is an argument. Not safe for concurrent use.
type floodgate struct {
	neighbors  map[identity.ID]*bucket
	initiators map[identity.ID]*bucket
	pending    int
}

type bucket struct {
	limit   *rate.Limiter
	used    time.Time
	pending int
}

func newFloodgate() *floodgate {
	return &floodgate{neighbors: make(map[identity.ID]*bucket), initiators: make(map[identity.ID]*bucket)}
}

// admitOpen reports whether an open that a neighbour handed over may be decapsulated. Each
// neighbour that sends opens has the same share of the node's rate.
func (f *floodgate) admitOpen(now time.Time, from identity.ID) bool {
	b, ok := f.bucket(f.neighbors, now, from, openRate)
	if !ok {
		return false
	}
	share := rate.Limit(openRate) / rate.Limit(len(f.neighbors))
	if b.limit.Limit() != share {
		b.limit.SetLimitAt(now, share)
		b.limit.SetBurstAt(now, max(1, int(share)))
	}
	return b.limit.AllowN(now, 1)
}

// admitInitiator reports whether a verified initiator may have one more unconfirmed stream,
// and counts it. Every true answer is ended by one call of release.
func (f *floodgate) admitInitiator(now time.Time, id identity.ID) bool {
	if f.pending >= pendingMax {
		return false
	}
	b, ok := f.bucket(f.initiators, now, id, initiatorRate)
	if !ok || b.pending >= initiatorPending || !b.limit.AllowN(now, 1) {
		return false
	}
	b.pending++
	f.pending++
	return true
}

// release says that a stream admitted by admitInitiator is confirmed or given up.
func (f *floodgate) release(id identity.ID) {
	if b := f.initiators[id]; b != nil && b.pending > 0 {
		b.pending--
		f.pending--
	}
}

func (f *floodgate) bucket(m map[identity.ID]*bucket, now time.Time, id identity.ID, perSecond int) (*bucket, bool) {
	b := m[id]
	if b == nil {
		if len(m) >= limiterMax {
			f.forget(m, now)
		}
		if len(m) >= limiterMax {
			return nil, false
		}
		b = &bucket{limit: rate.NewLimiter(rate.Limit(perSecond), perSecond)}
		m[id] = b
	}
	b.used = now
	return b, true
}

// tick forgets buckets that have been idle for long enough to be full.
func (f *floodgate) tick(now time.Time) {
	f.forget(f.neighbors, now)
	f.forget(f.initiators, now)
}

func (f *floodgate) forget(m map[identity.ID]*bucket, now time.Time) {
	for id, b := range m {
		if b.pending == 0 && now.Sub(b.used) >= limiterLife {
			delete(m, id)
		}
	}
}
