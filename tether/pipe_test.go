package tether

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

// ether is a network of links without WebRTC, for tests in virtual time: what is written
// arrives after delay, in order, while the ether is up; nothing is lost.
type ether struct {
	post  sync.Mutex // held while a message is delivered, which keeps them in order
	mu    sync.Mutex
	delay time.Duration
	down  bool
	links map[string]*pipeLink // by ufrag
	made  int
	open  int // links not closed
	// change may alter what a link of this ether writes; nil result drops it.
	change func(p []byte) []byte
}

func newEther(delay time.Duration) *ether {
	return &ether{delay: delay, links: make(map[string]*pipeLink)}
}

// set cuts or restores the ether.
func (e *ether) set(down bool) {
	e.mu.Lock()
	e.down = down
	all := make([]*pipeLink, 0, len(e.links))
	for _, l := range e.links {
		all = append(all, l)
	}
	e.mu.Unlock()
	if !down {
		for _, l := range all {
			l.tryOpen()
			l.flush()
		}
	}
}

func (e *ether) isDown() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.down
}

// maker gives a Manager links of this ether.
func (e *ether) maker() (linkMaker, error) { return e, nil }

func (e *ether) newLink(notify func()) (link, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.made++
	e.open++
	l := &pipeLink{e: e, notify: notify, done: make(chan struct{})}
	l.cond = sync.NewCond(&l.mu)
	l.own = wire.Description{Ufrag: fmt.Sprintf("ufrag%d", e.made), Pwd: "0123456789012345678901", Setup: wire.SetupActive}
	l.own.Fingerprint[0] = byte(e.made)
	e.links[l.own.Ufrag] = l
	return l, nil
}

// window is how many bytes a pipeLink holds on the way before write waits.
const window = 256 << 10

type pipeLink struct {
	e      *ether
	notify func()
	own    wire.Description
	once   sync.Once
	done   chan struct{}

	mu     sync.Mutex
	cond   *sync.Cond
	remote *wire.Description
	peer   *pipeLink
	st     linkState
	in     [][]byte // for read
	out    [][]byte // not yet on the way
	way    [][]byte // on the way
	flying int      // bytes written that the peer has not got
	bytes  uint64
	mute   bool // a dead end: takes what comes and acknowledges nothing
}

func (l *pipeLink) describe() (wire.Description, bool) { return l.own, true }

func (l *pipeLink) offer() (wire.Description, error) {
	d := l.own
	d.Setup = wire.SetupActpass
	return d, nil
}

func (l *pipeLink) accept(d wire.Description) error {
	l.mu.Lock()
	l.remote = &d
	l.mu.Unlock()
	l.tryOpen()
	return nil
}

func (l *pipeLink) answer(d wire.Description) (wire.Description, error) {
	return l.own, l.accept(d)
}

func (l *pipeLink) add(wire.Candidate) error { return nil }

func (l *pipeLink) candidates() ([]wire.Candidate, bool) { return nil, true }

// tryOpen opens both ends, some round trips later, if they know each other and the ether is up.
func (l *pipeLink) tryOpen() {
	l.mu.Lock()
	remote, st := l.remote, l.st
	l.mu.Unlock()
	if remote == nil || st != linkNew || l.e.isDown() {
		return
	}
	l.e.mu.Lock()
	peer := l.e.links[remote.Ufrag]
	l.e.mu.Unlock()
	if peer == nil || peer.own.Fingerprint != remote.Fingerprint {
		return
	}
	peer.mu.Lock()
	mutual := peer.remote != nil && peer.remote.Ufrag == l.own.Ufrag && peer.remote.Fingerprint == l.own.Fingerprint && peer.st == linkNew
	peer.mu.Unlock()
	if mutual {
		time.AfterFunc(6*l.e.delay, func() { l.up(peer); peer.up(l) })
	}
}

func (l *pipeLink) up(peer *pipeLink) {
	l.mu.Lock()
	changed := l.st == linkNew
	if changed {
		l.st, l.peer = linkOpen, peer
	}
	l.mu.Unlock()
	if changed {
		l.notify()
	}
}

func (l *pipeLink) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st
}

func (l *pipeLink) read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.in) == 0 {
		if l.st == linkDead {
			return 0, errors.New("pipe: closed")
		}
		l.cond.Wait()
	}
	if len(l.in[0]) > len(p) {
		return 0, io.ErrShortBuffer
	}
	n := copy(p, l.in[0])
	l.in = l.in[1:]
	return n, nil
}

func (l *pipeLink) write(p []byte) error {
	p = append([]byte(nil), p...)
	if l.e.change != nil {
		if p = l.e.change(p); p == nil {
			return nil
		}
	}
	l.mu.Lock()
	for l.flying > window && l.st == linkOpen {
		l.cond.Wait()
	}
	if l.st != linkOpen {
		l.mu.Unlock()
		return errors.New("pipe: closed")
	}
	l.out = append(l.out, p)
	l.flying += len(p)
	l.mu.Unlock()
	l.flush()
	return nil
}

// flush sends what waits if the ether is up.
func (l *pipeLink) flush() {
	if l.e.isDown() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; len(l.out) > 0; l.out = l.out[1:] {
		l.way = append(l.way, l.out[0])
		time.AfterFunc(l.e.delay, l.arrive)
	}
}

// arrive delivers the message that has been on the way for longest: in order, though timers
// of one moment fire in any.
func (l *pipeLink) arrive() {
	l.e.post.Lock()
	defer l.e.post.Unlock()
	down := l.e.isDown()
	l.mu.Lock()
	p, peer := l.way[0], l.peer
	l.way = l.way[1:]
	if down { // again when the ether is up
		l.out = append([][]byte{p}, l.out...)
		l.mu.Unlock()
		return
	}
	if peer.mute {
		l.mu.Unlock()
		return
	}
	l.flying -= len(p)
	l.bytes++ // the acknowledgement
	l.cond.Broadcast()
	l.mu.Unlock()
	peer.mu.Lock()
	defer peer.mu.Unlock()
	if peer.st == linkOpen {
		peer.in = append(peer.in, p)
		peer.bytes += uint64(len(p))
	}
	peer.cond.Broadcast()
}

func (l *pipeLink) heard() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

func (l *pipeLink) path() (PathKind, string, string) { return PathDirect, "here", "there" }

// kill ends this end without a word to the other.
func (l *pipeLink) kill() {
	l.mu.Lock()
	l.st = linkDead
	l.cond.Broadcast()
	l.mu.Unlock()
	l.notify()
}

func (l *pipeLink) close() {
	l.once.Do(func() {
		l.mu.Lock()
		was, peer := l.st, l.peer
		l.st = linkDead
		l.cond.Broadcast()
		l.mu.Unlock()
		l.e.mu.Lock()
		l.e.open--
		delete(l.e.links, l.own.Ufrag)
		l.e.mu.Unlock()
		if was == linkOpen && !peer.mute && !l.e.isDown() {
			time.AfterFunc(l.e.delay, peer.kill)
		}
	})
}
