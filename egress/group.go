package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/packet"
	"github.com/veil-net/anchor/internal/queue"
)

// group is the Egressers of one destination address: one for now, whose queue is the group's.
// The addresses of one anchor have a group each; their senders share the stream.
type group struct {
	e     *Egress
	dst   netip.Addr
	queue *queue.Queue[*buffer.Buf]
}

// lookup returns the group of an address that is being served.
func (e *Egress) lookup(dst netip.Addr) (*group, bool) {
	g, ok := e.groups.Load(dst)
	if !ok {
		return nil, false
	}
	return g.(*group), true
}

// push hands packets to the group of their destination, which is made if need be. Only the
// reader calls it. It takes over the references.
func (e *Egress) push(dst netip.Addr, bufs []*buffer.Buf) {
	for len(bufs) > 0 {
		g, ok := e.lookup(dst)
		if !ok {
			if e.live.Load() >= int64(e.cfg.MaxDestinations) {
				e.refuse(bufs)
				return
			}
			g = e.newGroup(dst)
		}
		n, err := g.queue.Offer(bufs)
		bufs = bufs[n:]
		switch {
		case errors.Is(err, net.ErrClosed): // it has just retired
			e.forget(g)
		case err != nil:
			e.count.slow.Add(uint64(len(bufs)))
			releaseAll(bufs)
			return
		}
	}
}

// refuse ends packets to one destination too many.
func (e *Egress) refuse(bufs []*buffer.Buf) {
	e.count.destinations.Add(uint64(len(bufs)))
	for _, b := range bufs {
		e.answer.send(b.Bytes(), packet.Unreachable)
	}
	releaseAll(bufs)
}

// newGroup starts to serve an address.
func (e *Egress) newGroup(dst netip.Addr) *group {
	policy := queue.Drop
	if e.admits {
		policy = queue.Admit
	}
	g := &group{e: e, dst: dst, queue: queue.New(e.cfg.Queues, queue.Config{
		Name: "egress.destination", Capacity: e.cfg.QueueBytes, Unit: "bytes", Policy: policy,
	}, (*buffer.Buf).Len)}
	e.groups.Store(dst, g)
	e.live.Add(1)
	w := newEgresser(g)
	e.wg.Go(w.run)
	return g
}

// forget takes a group off the list, so that the next packet makes a new one.
func (e *Egress) forget(g *group) {
	if e.groups.CompareAndDelete(g.dst, g) {
		e.live.Add(-1)
	}
}

// retire ends the group if nothing is waiting in it, and reports whether it did. A packet that
// comes at that moment finds a closed queue and makes a new group.
func (g *group) retire() bool {
	if !g.queue.CloseEmpty() {
		return false
	}
	g.e.forget(g)
	return true
}

// TryRoom reports whether a packet to dst would be within the limit of its queue; after Close
// nothing is. It neither waits nor allocates.
func (e *Egress) TryRoom(dst netip.Addr) bool { return e.ctx.Err() == nil && e.hasRoom(dst) }

// hasRoom is TryRoom whatever Close.
func (e *Egress) hasRoom(dst netip.Addr) bool {
	g, ok := e.lookup(dst)
	return !ok || g.queue.HasRoom() || isDone(g.queue.Done())
}

// WaitRoom waits until a packet to dst is within the limit of its queue, without reserving
// anything. It returns the context's cause if ctx ends first, and net.ErrClosed after Close,
// both wrapped. Packets that make no progress expire, so it does not wait for ever for a dead
// destination either.
func (e *Egress) WaitRoom(ctx context.Context, dst netip.Addr) error {
	g, ok := e.lookup(dst)
	var err error
	if ok {
		err = g.queue.WaitRoom(ctx)
		if errors.Is(err, net.ErrClosed) {
			err = nil // retired: it was empty
		}
	}
	if e.ctx.Err() != nil {
		err = net.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("egress: wait for room to %s: %w", dst, err)
	}
	return nil
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func releaseAll(bufs []*buffer.Buf) {
	for i, b := range bufs {
		b.Release()
		bufs[i] = nil
	}
}
