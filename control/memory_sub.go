package control

import (
	"container/heap"
	"context"
	"time"

	"github.com/veil-net/anchor/internal/queue"
)

// memorySub is a subscription on a Memory: a queue of messages on their way, and a goroutine that
// delivers each when it is due.
type memorySub struct {
	conn    *memoryConn
	pattern string
	handle  func([]byte)
	queue   *queue.Queue[onTheWay]
}

// onTheWay is a message and when it is due. Those due at the same time keep their order.
type onTheWay struct {
	msg []byte
	due time.Time
	seq uint64
}

func newMemorySub(c *memoryConn, pattern string, handle func([]byte)) *memorySub {
	return &memorySub{
		conn: c, pattern: pattern, handle: handle,
		queue: queue.New[onTheWay](nil, queue.Config{
			Name: "control.memory", Capacity: c.m.opt.Pending, Unit: "messages", Policy: queue.Drop,
		}, nil),
	}
}

// push sends a message off. It never waits: what a slow handler has no room for is lost.
func (s *memorySub) push(msg []byte, delay time.Duration) {
	if err := s.queue.Push(context.Background(), onTheWay{msg: msg, due: time.Now().Add(delay)}); err == queue.ErrFull {
		s.conn.dropped.Add(1)
	}
}

// run delivers until the subscription is cancelled or its Conn ends.
func (s *memorySub) run() {
	var late delayed
	var seq uint64
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	one := make([]onTheWay, 1)
	for {
		if s.cancelled() {
			return
		}
		if len(late) > 0 && !late[0].due.After(time.Now()) {
			s.handle(heap.Pop(&late).(onTheWay).msg)
			continue
		}
		if len(late) < s.conn.m.opt.Pending && s.queue.TryPop(one) > 0 {
			one[0].seq = seq
			seq++
			heap.Push(&late, one[0])
			continue
		}
		if len(late) > 0 {
			timer.Reset(time.Until(late[0].due))
		} else {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-s.queue.Ready():
		case <-s.queue.Done():
		}
	}
}

func (s *memorySub) cancelled() bool {
	select {
	case <-s.queue.Done():
		return true
	default:
		return false
	}
}

// delayed is a heap of messages by due time.
type delayed []onTheWay

func (d delayed) Len() int { return len(d) }
func (d delayed) Less(i, j int) bool {
	if d[i].due.Equal(d[j].due) {
		return d[i].seq < d[j].seq
	}
	return d[i].due.Before(d[j].due)
}
func (d delayed) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *delayed) Push(x any)   { *d = append(*d, x.(onTheWay)) }
func (d *delayed) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}
