// Package route chooses next hops, afresh at every anchor. The complete path of a message is
// never written down: a message bears its destination's tag, and each anchor that it comes to
// picks the next hop by itself.
//
//	stream ── Pick ──> candidates ─ Policy.Choose ─> tether.Neighbor ── Send ──> link
//	link ── Receive ──> envelope ─┬─ tag is ours ───> Local (stream.Endpoint)
//	                              └─ somebody else's: dropped and counted
//
// Everything here runs in the caller's goroutine; the package starts none and has no queue:
// Pick and Send wait for the queue of a tether, Receive for nothing.
package route

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/internal/wire"
	"github.com/veil-net/anchor/tether"
)

// Tethers is what a Router needs of tether.Manager.
type Tethers interface {
	// Neighbor returns the live tether to an anchor.
	Neighbor(id identity.ID) (tether.Neighbor, bool)
	// Open sets a tether up, or joins the attempt under way.
	Open(ctx context.Context, id identity.ID) (tether.Neighbor, error)
}

// Config is what a Router is made of. Tethers and Local are required, but may be set later
// with Bind.
type Config struct {
	Tethers Tethers
	Local   Local
	// Policy is the preference; nil means DirectOnly.
	Policy Policy
	// Stats gets the stage "route"; nil counts for nobody.
	Stats *stats.Set
	// Clock is the time for the Policy; nil means time.Now.
	Clock func() time.Time
}

// Router is the Forwarder of a node and the tether.Receiver of its tethers.
type Router struct {
	tethers Tethers
	local   Local
	policy  Policy
	clock   func() time.Time

	stage *stats.Stage
	drops map[error]*stats.Counter // by ParseEnvelope's error
	alien *stats.Counter
	gone  *stats.Counter

	scratch sync.Pool // of *scratch
}

// scratch is what one Pick needs.
type scratch struct {
	query Query
	hops  []tether.Neighbor
}

var (
	_ Forwarder       = (*Router)(nil)
	_ tether.Receiver = (*Router)(nil)
)

// New returns a Router. It does no I/O.
func New(c Config) *Router {
	if c.Policy == nil {
		c.Policy = DirectOnly{}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	st := c.Stats.Stage("route")
	return &Router{
		tethers: c.Tethers, local: c.Local, policy: c.Policy, clock: c.Clock,
		stage: st,
		drops: map[error]*stats.Counter{
			wire.ErrShort:    st.Drop("short message"),
			wire.ErrTooLong:  st.Drop("long message"),
			wire.ErrVersion:  st.Drop("unknown version"),
			wire.ErrKind:     st.Drop("unknown kind"),
			wire.ErrFlags:    st.Drop("reserved flags"),
			wire.ErrHopLimit: st.Drop("hop limit"),
		},
		alien:   st.Drop("not for this anchor"),
		gone:    st.Note("hop gone while sending"),
		scratch: sync.Pool{New: func() any { return new(scratch) }},
	}
}

// Bind sets the two ends of the Router, which are built after it. Call it before the first
// message.
func (r *Router) Bind(t Tethers, l Local) { r.tethers, r.local = t, l }

// Pick implements Forwarder. The only candidate is the destination itself as a neighbour.
func (r *Router) Pick(ctx context.Context, to *Destination, req Request) (Descriptor, error) {
	n, ok := r.tethers.Neighbor(to.ID)
	if !ok {
		var err error
		if n, err = r.tethers.Open(ctx, to.ID); err != nil {
			return Descriptor{}, r.unreachable(ctx, to, err)
		}
	}
	d := r.choose(to, req, n)
	if err := d.hop.WaitRoom(ctx); err != nil {
		return Descriptor{}, r.unreachable(ctx, to, err)
	}
	return d, nil
}

// choose asks the policy. The query lives in a pool because it is passed to an interface.
func (r *Router) choose(to *Destination, req Request, n tether.Neighbor) Descriptor {
	s := r.scratch.Get().(*scratch)
	defer r.scratch.Put(s)
	s.hops = append(s.hops[:0], n)
	s.query = Query{
		Now: r.clock(), To: to, Flow: req.Flow, Size: req.Size,
		Candidates: append(s.query.Candidates[:0], Candidate{Hop: to.ID, Direct: true}),
	}
	c := r.policy.Choose(&s.query)
	if c.Hop < 0 || c.Hop >= len(s.hops) { // a Policy of a user may be wrong; a message is not lost for it
		c = Choice{Probe: -1}
	}
	return Descriptor{NextHop: s.query.Candidates[c.Hop].Hop, Destination: to, Reason: c.Reason, hop: s.hops[c.Hop]}
}

func (r *Router) unreachable(ctx context.Context, to *Destination, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		return fmt.Errorf("route: pick a hop to %s: %w", to.ID.Short(), err)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, to.ID.Short(), err)
}

// Send implements Forwarder.
func (r *Router) Send(ctx context.Context, d Descriptor, m *buffer.Buf) error {
	if d.hop == nil {
		m.Release()
		return fmt.Errorf("route: send: %w: descriptor is not from Pick", ErrUnreachable)
	}
	if err := d.hop.Send(ctx, m); err != nil {
		if errors.Is(err, tether.ErrDown) {
			r.gone.Inc()
		}
		return fmt.Errorf("route: send by %s: %w", d.NextHop.Short(), err)
	}
	r.stage.Out.Inc()
	return nil
}

// Observe implements Forwarder.
func (r *Router) Observe(o Observation) { r.policy.Observe(o) }

// Up implements tether.Receiver.
func (r *Router) Up(n tether.Neighbor) { r.local.NeighborUp(n.ID(), n.Session()) }

// Down implements tether.Receiver.
func (r *Router) Down(n tether.Neighbor) {
	r.policy.Observe(Observation{Now: r.clock(), Hop: n.ID(), Outcome: Died})
	r.local.NeighborDown(n.ID())
}

// Receive implements tether.Receiver: it checks the envelope and hands the message to this
// anchor's own streams, or drops and counts it.
func (r *Router) Receive(from tether.Neighbor, m *buffer.Buf) {
	r.stage.In.Inc()
	e, err := wire.ParseEnvelope(m.Bytes())
	if err == nil && e.HopLimit == 0 { // no honest anchor lets it come to that
		err = wire.ErrHopLimit
	}
	if err != nil {
		r.drops[err].Inc()
		m.Release()
		return
	}
	if !r.local.IsLocal(e.Tag) {
		r.alien.Inc()
		m.Release()
		return
	}
	r.local.Receive(from.ID(), m)
}
