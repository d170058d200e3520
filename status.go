package anchor

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/stats"
	"github.com/veil-net/anchor/tether"
)

// Status is the state of a node at one moment. Numbers count since the node started.
type Status struct {
	Name    string
	ID      identity.ID
	Realm   string
	IPv4    netip.Addr // the zero Addr if the node has none
	IPv6    netip.Addr
	MTU     int  // of the packet source; 0 before Start
	Running bool // Start has succeeded and the node has not closed
	// Master reports whether the Master is there now. Peers that are known are reached without it.
	Master bool
	Peers  []PeerStatus  // sorted by name
	Stages []StageStatus // sorted by name
	Queues []QueueStatus // sorted by name
}

// Drops is the sum of all that the stages dropped, for any reason.
func (s Status) Drops() uint64 {
	var sum uint64
	for _, st := range s.Stages {
		for _, n := range st.Drops {
			sum += n
		}
	}
	return sum
}

// StageStatus counts what passed one stage of the pipeline.
type StageStatus struct {
	Name string
	// In and Out count packets (egress, ingress) or messages (stream, route, tether, control).
	In, Out uint64
	// Drops counts what was lost here, by reason. In steady operation all are 0.
	Drops map[string]uint64
	// Notes counts what is no loss: duplicates, ignored multicast, repeats.
	Notes map[string]uint64
}

// QueueStatus describes all queues of one name; there may be one for each destination.
type QueueStatus struct {
	Name      string
	Unit      string // what Capacity, Used and HighWater count
	Policy    string // what a full queue does: "wait", "drop" or "admit"
	Capacity  int    // of one queue
	Queues    int    // open now
	Len       int    // items waiting now
	Used      int    // their weight
	HighWater int    // the highest weight that one queue has held
	In, Out   uint64 // items
	Dropped   uint64 // items refused
	Waits     uint64 // how often a writer waited
	Waiting   int    // writers waiting now
	Waited    time.Duration
}

// PeerStatus describes an anchor that this node has a tether or a session with.
type PeerStatus struct {
	Peer
	// Path says how its bytes travel now: tether.PathDirect, tether.PathRelayed, or
	// tether.PathNone while there is no tether.
	Path  tether.PathKind
	Since time.Time // when the tether came up
	Heard time.Time // when the last authenticated bytes came
	RTT   time.Duration
	// Local and Remote are the transport addresses of the tether.
	Local, Remote string
	// Suite names the cryptography of the session; empty without one.
	Suite string
	// SentMessages and GotMessages count data messages of the sessions with the peer that are open now.
	SentMessages, GotMessages uint64
}

// Status returns the state of the node. It may be called in any state.
func (n *Node) Status() Status {
	s := Status{
		Name: n.cert.Name, ID: n.cert.ID, Realm: n.cfg.Identity.RealmName(),
		IPv4: n.cert.IPv4, IPv6: n.cert.IPv6,
	}
	n.mu.Lock()
	p := n.pipeline
	n.mu.Unlock()
	if p == nil {
		return s
	}
	s.Running, s.Master, s.MTU = true, p.control.Connected(), p.mtu
	s.Peers = p.peers()
	for _, st := range p.stats.Snapshot() {
		s.Stages = append(s.Stages, stageStatus(st))
	}
	for _, q := range p.queues.Snapshot() {
		s.Queues = append(s.Queues, queueStatus(q))
	}
	return s
}

// Peers returns the anchors that this node has a tether or a session with, sorted by name. It
// is nil while the node is not running.
func (n *Node) Peers() []PeerStatus {
	n.mu.Lock()
	p := n.pipeline
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.peers()
}

func (p *pipeline) peers() []PeerStatus {
	byID := make(map[identity.ID]*PeerStatus)
	for _, s := range p.streams.Peers() {
		byID[s.Certificate.ID] = &PeerStatus{
			Peer: peerOf(s.Certificate), Suite: s.Suite,
			SentMessages: s.Sent, GotMessages: s.Received,
		}
	}
	for _, t := range p.tethers.Neighbors() {
		st := byID[t.ID()]
		if st == nil {
			c, ok := p.certificate(t.ID())
			if !ok {
				continue
			}
			st = &PeerStatus{Peer: peerOf(c)}
			byID[t.ID()] = st
		}
		i := t.Info()
		st.Path, st.Since, st.Heard, st.RTT = i.Path, i.Since, i.Heard, i.RTT
		st.Local, st.Remote = i.Local, i.Remote
	}
	out := make([]PeerStatus, 0, len(byID))
	for _, st := range byID {
		out = append(out, *st)
	}
	slices.SortFunc(out, func(a, b PeerStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

func stageStatus(s stats.Snapshot) StageStatus {
	return StageStatus{Name: s.Name, In: s.In, Out: s.Out, Drops: s.Drops, Notes: s.Notes}
}

func queueStatus(q queue.Stats) QueueStatus {
	return QueueStatus{
		Name: q.Name, Unit: q.Unit, Policy: q.Policy.String(), Capacity: q.Capacity,
		Queues: q.Queues, Len: q.Len, Used: q.Used, HighWater: q.HighWater,
		In: q.In, Out: q.Out, Dropped: q.Dropped,
		Waits: q.Waits, Waiting: q.Waiting, Waited: q.Waited,
	}
}
