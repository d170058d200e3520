package control

import (
	"context"
	"sync"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
)

const (
	// laneBytes is how many bytes of one sender's messages wait: a stream's largest window and
	// what sealing adds to it. allLanesBytes is how many of all together.
	laneBytes     = 10 << 20
	allLanesBytes = 48 << 20
	// maxLanes is how many senders' messages may wait at a time.
	maxLanes = 1024
)

// lanes hold the messages that wait to be verified, a queue for each sender: so that a sender's
// messages keep their order, and neither a slow look-up nor a slow handler holds up another's. A
// lane exists, and has a goroutine, while it holds messages.
type lanes struct {
	c *channel

	mu    sync.Mutex
	open  map[identity.ID]*queue.Queue[*inbound]
	bytes int
}

func newLanes(c *channel) *lanes {
	return &lanes{c: c, open: make(map[identity.ID]*queue.Queue[*inbound])}
}

// put adds a message to its sender's lane. It never waits; it reports false if there is no room.
func (l *lanes) put(in *inbound) bool {
	l.mu.Lock()
	q := l.open[in.sender]
	if l.bytes >= allLanesBytes || q == nil && len(l.open) >= maxLanes {
		l.mu.Unlock()
		return false
	}
	begin := q == nil
	if begin {
		q = queue.New(l.c.opt.Queues, queue.Config{
			Name: "control.sender", Capacity: laneBytes, Unit: "bytes", Policy: queue.Drop,
		}, func(in *inbound) int { return in.size })
		l.open[in.sender] = q
	}
	// Under the lock, so that the lane does not end in between; a Push that drops never waits.
	ok := q.Push(context.Background(), in) == nil
	if ok {
		l.bytes += in.size
	}
	l.mu.Unlock()
	if begin && !l.c.spawn(func() { l.run(in.sender, q, l.c.process) }) {
		l.run(in.sender, q, func(*inbound) {}) // the Channel has ended: empty it
	}
	return ok
}

// run processes a lane's messages until there are none.
func (l *lanes) run(sender identity.ID, q *queue.Queue[*inbound], process func(*inbound)) {
	one := make([]*inbound, 1)
	for {
		if q.TryPop(one) == 0 {
			if l.end(sender, q) {
				return
			}
			continue
		}
		in := one[0]
		one[0] = nil
		l.mu.Lock()
		l.bytes -= in.size
		l.mu.Unlock()
		if l.c.ctx.Err() == nil {
			process(in)
		}
	}
}

// end removes a lane if it is still empty.
func (l *lanes) end(sender identity.ID, q *queue.Queue[*inbound]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.Len() > 0 {
		return false
	}
	delete(l.open, sender)
	q.Close()
	return true
}
