package control

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// errMemoryDown is why Conns of a Memory end.
var errMemoryDown = errors.New("control: memory fabric is down")

// MemoryOptions are for NewMemory. The zero value is usable.
type MemoryOptions struct {
	// Seed makes faults repeatable: what happens to the n-th message of one subject from one side
	// to another depends on nothing else.
	Seed uint64
	// MaxPayload is the longest message and value in bytes; 0 means 1 MiB.
	MaxPayload int
	// Pending is how many messages wait for a slow handler before more are dropped; 0 means 65,536.
	Pending int
}

// Rule says what a Memory does to messages. The zero Rule does nothing.
type Rule struct {
	// From and To are names of sides, Subject is a subject whose words may be * for any one word, or
	// end in > for any others; each empty means any. A bucket's key K is subject $KV.BUCKET.K; what is
	// read from or written to a bucket is To "".
	From, To, Subject string
	// Delay is how long a message takes, Jitter how much longer at most: evenly spread, which
	// reorders.
	Delay, Jitter time.Duration
	// Drop, Duplicate and Reorder are shares, 0 to 1. A dropped read or write of a bucket waits for the
	// end of its context. A reordered message takes HoldBack longer.
	Drop, Duplicate, Reorder float64
	// HoldBack is how much longer a reordered message takes; 0 means 10 ms.
	HoldBack time.Duration
}

// Partition says how a side is cut off.
type Partition uint8

const (
	// PartitionNone connects a side again.
	PartitionNone Partition = iota
	// PartitionCut ends the side's connections and refuses new ones.
	PartitionCut
	// PartitionSilent leaves the connections up, but nothing passes and nothing answers, as
	// when a server is frozen. Connecting waits for the end of its context.
	PartitionSilent
)

// Memory is a Fabric within one process, for tests and for programs of several nodes. It can
// delay, drop, duplicate, reorder, be cut in two, and lose its store. Every member may connect
// by a side of its own, so that faults can be told apart. It is safe for concurrent use. Its own
// methods Connect and String are those of the side without a name.
type Memory struct {
	opt MemoryOptions

	mu    sync.Mutex
	up    bool
	made  time.Time
	store map[string]memoryValue // by $KV.BUCKET.KEY
	conns map[*memoryConn]struct{}
	cut   map[string]Partition
	rules []Rule
	flows map[flow]*rand.Rand
}

type memoryValue struct {
	bytes []byte
	at    time.Time
}

// flow names what one random sequence decides about.
type flow struct{ from, to, subject string }

// NewMemory returns an empty Memory, up and free of faults.
func NewMemory(o MemoryOptions) *Memory {
	if o.MaxPayload == 0 {
		o.MaxPayload = 1 << 20
	}
	if o.Pending == 0 {
		o.Pending = 1 << 16
	}
	m := &Memory{
		opt: o, up: true,
		conns: make(map[*memoryConn]struct{}),
		cut:   make(map[string]Partition),
		flows: make(map[flow]*rand.Rand),
	}
	m.clear()
	return m
}

// clear empties the store. The caller holds mu, or is NewMemory.
func (m *Memory) clear() {
	m.store = make(map[string]memoryValue)
	m.made = time.Now()
}

// Side returns the Fabric by which the side of that name connects.
func (m *Memory) Side(name string) Fabric { return memorySide{m, name} }

// Connect implements Fabric.
func (m *Memory) Connect(ctx context.Context) (Conn, error) { return m.Side("").Connect(ctx) }

// String implements Fabric.
func (m *Memory) String() string { return m.Side("").String() }

// SetRules replaces the rules. The first that fits a message decides about it.
func (m *Memory) SetRules(rules ...Rule) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rules = append([]Rule(nil), rules...)
}

// Partition cuts a side off, or connects it again.
func (m *Memory) Partition(side string, p Partition) {
	m.mu.Lock()
	m.cut[side] = p
	var ended []*memoryConn
	for c := range m.conns {
		if p == PartitionCut && c.side == side {
			ended = append(ended, c)
		}
	}
	m.mu.Unlock()
	for _, c := range ended {
		c.end(fmt.Errorf("%w: side %q is cut off", errMemoryDown, side))
	}
}

// Stop ends all connections and refuses new ones.
func (m *Memory) Stop() {
	m.mu.Lock()
	m.up = false
	var ended []*memoryConn
	for c := range m.conns {
		ended = append(ended, c)
	}
	m.mu.Unlock()
	for _, c := range ended {
		c.end(errMemoryDown)
	}
}

// Restart ends all connections and accepts new ones, with an empty store if empty is set.
func (m *Memory) Restart(empty bool) {
	m.Stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	if empty {
		m.clear()
	}
	m.up = true
}

// rule returns the rule for a message. The caller holds mu.
func (m *Memory) rule(f flow) Rule {
	if m.cut[f.from] == PartitionSilent || m.cut[f.to] == PartitionSilent {
		return Rule{Drop: 1}
	}
	for _, r := range m.rules {
		if (r.From == "" || r.From == f.from) && (r.To == "" || r.To == f.to) && (r.Subject == "" || subjectMatches(r.Subject, f.subject)) {
			return r
		}
	}
	return Rule{}
}

// fate decides about one message: the delay of each copy of it, none if it is lost. The
// caller holds mu.
func (m *Memory) fate(f flow) []time.Duration {
	r := m.rule(f)
	if r == (Rule{}) {
		return []time.Duration{0}
	}
	rnd := m.flows[f]
	if rnd == nil {
		h := fnv.New64a()
		fmt.Fprintf(h, "%q %q %q", f.from, f.to, f.subject)
		rnd = rand.New(rand.NewPCG(m.opt.Seed, h.Sum64()))
		m.flows[f] = rnd
	}
	drop, duplicate := rnd.Float64() < r.Drop, rnd.Float64() < r.Duplicate
	delays := []time.Duration{r.delay(rnd)}
	if duplicate {
		delays = append(delays, r.delay(rnd))
	}
	if drop {
		return nil
	}
	return delays
}

// delay draws how long one copy takes.
func (r *Rule) delay(rnd *rand.Rand) time.Duration {
	d := r.Delay + time.Duration(rnd.Float64()*float64(r.Jitter))
	if rnd.Float64() < r.Reorder {
		if r.HoldBack == 0 {
			return d + 10*time.Millisecond
		}
		return d + r.HoldBack
	}
	return d
}

// subjectMatches reports whether a subject fits a pattern of words, * and >.
func subjectMatches(pattern, subject string) bool {
	for {
		p, pRest, pMore := strings.Cut(pattern, ".")
		if p == ">" {
			return true
		}
		s, sRest, sMore := strings.Cut(subject, ".")
		if p != "*" && p != s || pMore != sMore {
			return false
		}
		if !pMore {
			return true
		}
		pattern, subject = pRest, sRest
	}
}

// memorySide is a Fabric on a Memory.
type memorySide struct {
	m    *Memory
	name string
}

// String implements Fabric.
func (s memorySide) String() string {
	if s.name == "" {
		return "memory:"
	}
	return "memory:" + s.name
}

// Connect implements Fabric.
func (s memorySide) Connect(ctx context.Context) (Conn, error) {
	c, silent, err := s.m.connect(s.name)
	if silent {
		<-ctx.Done()
		err = fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("control: connect to %v: %w", s, err)
	}
	return c, nil
}

func (m *Memory) connect(side string) (c *memoryConn, silent bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.up || m.cut[side] == PartitionCut:
		return nil, false, errMemoryDown
	case m.cut[side] == PartitionSilent:
		return nil, true, nil
	}
	c = &memoryConn{m: m, side: side, done: make(chan struct{})}
	if len(m.store) > 0 {
		c.age = time.Since(m.made)
	}
	m.conns[c] = struct{}{}
	return c, false, nil
}

// Keys lists the keys of a bucket.
func (m *Memory) Keys(b Bucket) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for subject := range m.store {
		if key, ok := strings.CutPrefix(subject, kvSubject(b, "")); ok {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}
