package anchor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/egress"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/ingress"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/netstack"
	"github.com/veil-net/anchor/route"
	"github.com/veil-net/anchor/stream"
	"github.com/veil-net/anchor/tether"
)

// The pipeline of a node, built in startPipeline. A double line is a queue, a single one a call.
//
//	egress    source.Read            one goroutine; the one synchronous boundary
//	            │ classify by destination address
//	          ══╪══ egress.destination, one for each
//	            │ Egresser: up to 25 packets to a message      parallel by destination
//	          stream.Send            sign, number, seal
//	            │ wait for the stream's window
//	          route.Pick             next hop; wait for its room
//	          ══╪══ tether.link, one for each link
//	            │ writer goroutine of the link                 parallel by link
//	          WebRTC data channel
//
//	ingress   read loop of a link                              parallel by link; never waits
//	            │ route.Receive: ours? ── no: dropped and counted
//	          stream.Receive         by stream id
//	          ══╪══ ingress.stream, one for each inbound stream, bounded by the stream's window
//	            │ Ingresser: open, verify, resequence, check inner addresses
//	          source.Write
//
// Ingress never waits for egress: a read loop hands on what it gets to queues that have room
// by construction. Acknowledgements have goroutines of their own.
type pipeline struct {
	node   *Node
	stats  stats.Set
	queues queue.Registry
	mtu    int

	session  *identity.Session
	verifier *identity.Verifier
	stack    stack
	source   tun.Device
	// closeSource ends the packet source; it does so once.
	closeSource func()
	control     control.Channel
	tethers     *tether.Manager
	router      *route.Router
	streams     *stream.Endpoint
	ingress     *ingress.Ingress
	egress      *egress.Egress

	life   context.Context // ends when the pipeline closes
	cancel context.CancelFunc
	wg     sync.WaitGroup

	undo []func() // closers, last first
}

const defaultLookupWait = 5 * time.Second

// startPipeline builds the pipeline from both ends to the middle and starts it. When a part
// fails, those before it are closed again.
func startPipeline(ctx context.Context, n *Node) (_ *pipeline, err error) {
	p := &pipeline{node: n}
	p.life, p.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	steps := []func(context.Context) error{p.makeSession, p.makeSource, p.makeStages, p.connect}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *pipeline) makeSession(context.Context) (err error) {
	c := &p.node.cfg
	p.verifier = identity.NewVerifier(c.Identity, c.testing.clock)
	if err := p.verifier.Check(p.node.cert); err != nil {
		return err
	}
	mtu := c.MTU
	if mtu == 0 {
		mtu = netstack.DefaultMTU
	}
	if c.Source != nil {
		if mtu, err = c.Source.MTU(); err != nil {
			return fmt.Errorf("MTU of the packet source: %w", err)
		}
	}
	p.mtu = mtu
	p.session, err = identity.NewSession(c.Identity, identity.SessionOptions{MTU: mtu, Clock: c.testing.clock})
	return err
}

// makeStages builds everything between the packet source and the Master. Nothing runs yet
// but what waits for work.
func (p *pipeline) makeStages(context.Context) error {
	c := &p.node.cfg
	log := c.Logger.With("anchor", p.node.cert.Name)
	p.control = control.New(c.Control, p.session, p.verifier, control.Options{
		Logger: log, Stats: &p.stats, Queues: &p.queues, OnRevoked: p.audit,
	})
	p.defer_(func() { p.control.Close() })
	p.router = route.New(route.Config{Policy: c.RoutePolicy, Stats: &p.stats, Clock: c.testing.clock})
	links := tether.Config{
		Session: p.session, Verifier: p.verifier, Control: p.control, Receiver: p.router,
		Admit:      p.allow,
		ICEServers: c.ICEServers, Loopback: control.Local(c.Control) || offline(),
		Logger: log, Stats: &p.stats, Queues: &p.queues,
	}
	if change := c.testing.links; change != nil {
		change(&links)
	}
	p.tethers = tether.NewManager(links)
	p.defer_(func() { p.tethers.Close() })
	p.ingress = ingress.New(ingress.Config{
		Device: p.source, Local: p.node.cert.Addrs(), Logger: log, Stats: &p.stats, Queues: &p.queues,
	})
	p.defer_(func() { p.ingress.Close() })
	p.streams = stream.NewEndpoint(stream.Config{
		Session: p.session, Verifier: p.verifier, Directory: directory{p}, Forwarder: p.router,
		Acceptor: p.ingress, Allow: p.allow, Policy: c.StreamPolicy, OnNewSession: p.onNewSession,
		Logger: log, Stats: &p.stats, Queues: &p.queues,
	})
	p.defer_(func() { p.streams.Close() })
	p.router.Bind(p.tethers, p.streams)
	p.egress = egress.New(egress.Config{
		Source: p.source, Local: p.node.cert.Addrs(), Resolver: resolver{p}, Senders: p.streams,
		QueueBytes: c.QueueBytes, Logger: log, Stats: &p.stats, Queues: &p.queues,
	})
	p.stack.SetGate(p.egress)
	return nil
}

// offline reports whether the machine has no interface but loopback: then links use that.
func offline() bool {
	all, err := net.Interfaces()
	if err != nil {
		return false // a sandbox hides them; pion finds what there is
	}
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 {
			return false
		}
	}
	return true
}

// connect joins the Master and opens the tap.
func (p *pipeline) connect(ctx context.Context) error {
	if err := p.control.Start(ctx, p.receive); err != nil {
		return err
	}
	p.egress.Start()
	p.defer_(func() {
		p.closeSource() // which alone ends egress's read; connections are reset
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		_ = p.egress.Shutdown(ctx) // peers had better hear of the resets; not at any price
		p.streams.Drain(ctx)
	})
	p.wg.Go(p.followMaster)
	p.wg.Go(p.keepEpoch)
	p.wg.Go(p.watch)
	return nil
}

// receive is the handler of control messages. It must not wait.
func (p *pipeline) receive(m control.Message) {
	if m.Topic == control.TopicSignal {
		p.tethers.HandleSignal(m)
	}
}

// followMaster logs the Master's comings and goings.
func (p *pipeline) followMaster() {
	for {
		select {
		case e := <-p.control.Events():
			p.node.cfg.Logger.Info("master", "anchor", p.node.cert.Name, "connected", e.Connected, "err", e.Err)
		case <-p.life.Done():
			return
		}
	}
}

// freshFor reports whether the directory was made anew within the last d.
func (p *pipeline) freshFor(d time.Duration) bool {
	at := p.control.FreshSince()
	return !at.IsZero() && time.Since(at) < d
}

// keepEpoch makes a new record when the day changes, and ends the node when its certificate
// does.
func (p *pipeline) keepEpoch() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.life.Done():
			return
		}
		changed, err := p.session.Advance(p.node.cfg.testing.clock())
		if err == nil && changed {
			ctx, cancel := context.WithTimeout(p.life, 10*time.Second)
			err = p.control.Announce(ctx) // announced on return of the Master if it is away
			cancel()
		}
		if err != nil {
			p.node.cfg.Logger.Warn("new epoch", "anchor", p.node.cert.Name, "err", err)
		}
		p.audit()
	}
}

// watch closes the node if the pipeline cannot go on.
func (p *pipeline) watch() {
	expiry := time.NewTimer(time.Until(p.node.cert.NotAfter.Add(10 * time.Minute)))
	defer expiry.Stop()
	var fault error
	select {
	case <-p.control.Done():
		fault = p.control.Err()
	case <-p.egress.Done():
		fault = fmt.Errorf("packet source: %w", p.egress.Err())
	case <-expiry.C:
		fault = p.verifier.Check(p.node.cert)
	case <-p.life.Done():
	}
	if p.life.Err() == nil && fault != nil {
		// In a goroutine of its own, since closing waits for this one; Done is closed at its end.
		go p.node.fail(fault)
	}
}

// audit ends what belongs to anchors that are no longer admitted: streams, the tether, and
// connections, which would otherwise wait for their keep-alive. It runs when a new revocation
// list comes, and on a timer for certificates that expire.
func (p *pipeline) audit() {
	for _, c := range p.streams.Audit() {
		p.tethers.Drop(c.ID)
		for _, a := range c.Addrs() {
			p.stack.ResetPeer(a)
		}
	}
	for _, n := range p.tethers.Neighbors() {
		if _, ok := p.certificate(n.ID()); !ok { // not in force any more
			p.tethers.Drop(n.ID())
		}
	}
}

// farewell bounds how long Close lets the last packets go.
const farewell = 300 * time.Millisecond

// onNewSession ends the connections with an anchor that has started anew.
func (p *pipeline) onNewSession(id identity.ID) {
	if c, ok := p.certificate(id); ok {
		for _, a := range c.Addrs() {
			p.stack.ResetPeer(a)
		}
	}
}

// drain waits until the stack has delivered everything, or ctx ends.
func (p *pipeline) drain(ctx context.Context) error { return p.stack.Quiesce(ctx) }

// close ends everything, last made first, and returns when all goroutines have ended.
func (p *pipeline) close() {
	p.cancel()
	for i := len(p.undo) - 1; i >= 0; i-- {
		p.undo[i]()
	}
	p.undo = nil
	p.wg.Wait()
}

func (p *pipeline) defer_(f func()) { p.undo = append(p.undo, f) }

// allow decides whether streams may be opened between this node and a peer.
func (p *pipeline) allow(c *identity.Certificate) bool {
	if f := p.node.cfg.Allow; f != nil {
		return f(peerOf(c))
	}
	return identity.DefaultAllow(p.node.cert, c)
}

// admitted is allow with an error to show.
func (p *pipeline) admitted(c *identity.Certificate) error {
	if err := p.verifier.Check(c); err != nil {
		return err
	}
	if !p.allow(c) {
		return fmt.Errorf("peer %s: %w", c.Name, stream.ErrNotAllowed)
	}
	return nil
}

// certificate finds what is known about an anchor without asking anybody.
func (p *pipeline) certificate(id identity.ID) (*identity.Certificate, bool) {
	r, ok := p.control.Cached(control.Key{ID: id})
	if !ok {
		return nil, false
	}
	return r.Certificate, true
}

func (p *pipeline) whois(a netip.Addr) (*identity.Certificate, bool) {
	r, ok := p.control.Cached(control.Key{Addr: a})
	if !ok {
		return nil, false
	}
	return r.Certificate, true
}
