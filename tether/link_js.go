package tether

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/pion/webrtc/v4"

	"github.com/veil-net/anchor/internal/queue"
	"github.com/veil-net/anchor/internal/wire"
)

// In a browser the RTCPeerConnection is the browser's own. Messages come by OnMessage, which
// cannot push back, and leave by Send, which never waits; both get a bound here.
const (
	// browserQueue is how many bytes may wait for the reader: as many as SCTP would hold. Beyond that
	// the link ends, since a reliable channel must not lose one message in silence.
	browserQueue = sctpBuffer
	// A write waits while more than sendAbove bytes are buffered, until sendBelow are left.
	sendAbove, sendBelow = 256 << 10, 128 << 10
)

// errLinkClosed is what reads and writes of a closed link return.
var errLinkClosed = errors.New("tether: link is closed")

// browserMaker makes links of the browser's RTCPeerConnections. It cannot choose addresses,
// sockets or settings; mDNS names, which browsers put in place of local addresses, are not
// sent.
type browserMaker struct{ config webrtc.Configuration }

func newLinkMaker(o linkOptions) (linkMaker, error) {
	m := &browserMaker{}
	for _, s := range o.servers {
		m.config.ICEServers = append(m.config.ICEServers, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	return m, nil
}

func (m *browserMaker) newLink(notify func()) (link, error) {
	pc, err := webrtc.NewPeerConnection(m.config)
	if err != nil {
		return nil, fmt.Errorf("tether: new link: %w", err)
	}
	l := &browserLink{
		pc: pc, notify: notify, low: make(chan struct{}, 1),
		in: queue.New(nil, queue.Config{Name: "tether.browser", Capacity: browserQueue, Unit: "bytes", Policy: queue.Drop},
			func(p []byte) int { return len(p) }),
	}
	pc.OnICECandidate(l.gathered)
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateFailed || s == webrtc.PeerConnectionStateClosed {
			l.die()
		}
	})
	pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		if dc.Ordered() || dc.Label() != channelLabel || dc.Protocol() != channelProtocol {
			l.die()
			return
		}
		l.use(dc)
	})
	return l, nil
}

// browserLink is a link on one RTCPeerConnection of the browser.
type browserLink struct {
	pc     *webrtc.PeerConnection
	notify func()
	in     *queue.Queue[[]byte] // messages for the reader
	next   []byte               // the reader's: one that was too long for its buffer
	low    chan struct{}        // the channel's buffer has drained
	bytes  atomic.Uint64
	once   sync.Once

	mu       sync.Mutex
	cands    []wire.Candidate
	complete bool
	st       linkState
	channel  *webrtc.DataChannel
}

func (l *browserLink) describe() (wire.Description, bool) { return wire.Description{}, false }

func (l *browserLink) offer() (wire.Description, error) {
	ordered, protocol := false, channelProtocol
	dc, err := l.pc.CreateDataChannel(channelLabel, &webrtc.DataChannelInit{Ordered: &ordered, Protocol: &protocol})
	if err != nil {
		return wire.Description{}, fmt.Errorf("tether: create data channel: %w", err)
	}
	l.use(dc)
	o, err := l.pc.CreateOffer(nil)
	if err != nil {
		return wire.Description{}, fmt.Errorf("tether: create offer: %w", err)
	}
	if err := l.pc.SetLocalDescription(o); err != nil {
		return wire.Description{}, fmt.Errorf("tether: set own offer: %w", err)
	}
	return parseSDP(o.SDP, wire.SetupActpass)
}

func (l *browserLink) accept(d wire.Description) error {
	if err := l.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdpText(d)}); err != nil {
		return fmt.Errorf("tether: set peer's answer: %w", err)
	}
	return nil
}

func (l *browserLink) answer(d wire.Description) (wire.Description, error) {
	if err := l.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdpText(d)}); err != nil {
		return wire.Description{}, fmt.Errorf("tether: set peer's offer: %w", err)
	}
	a, err := l.pc.CreateAnswer(nil)
	if err != nil {
		return wire.Description{}, fmt.Errorf("tether: create answer: %w", err)
	}
	if err := l.pc.SetLocalDescription(a); err != nil {
		return wire.Description{}, fmt.Errorf("tether: set own answer: %w", err)
	}
	return parseSDP(a.SDP, wire.SetupActive)
}

func (l *browserLink) add(c wire.Candidate) error {
	if err := l.pc.AddICECandidate(candidateInit(c)); err != nil {
		return fmt.Errorf("tether: add candidate: %w", err)
	}
	return nil
}

func (l *browserLink) gathered(c *webrtc.ICECandidate) {
	l.mu.Lock()
	if c == nil {
		l.complete = true
	} else if w, ok := candidateFrom(c); ok && len(l.cands) < wire.MaxCandidates {
		l.cands = append(l.cands, w)
	}
	l.mu.Unlock()
	l.notify()
}

func (l *browserLink) candidates() ([]wire.Candidate, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cands[:len(l.cands):len(l.cands)], l.complete
}

// use takes a data channel for the link's own.
func (l *browserLink) use(dc *webrtc.DataChannel) {
	dc.SetBufferedAmountLowThreshold(sendBelow)
	dc.OnBufferedAmountLow(func() { signal(l.low) })
	dc.OnClose(l.die)
	dc.OnMessage(func(m webrtc.DataChannelMessage) {
		l.bytes.Add(uint64(len(m.Data)))
		if l.in.Push(context.Background(), m.Data) != nil {
			l.die()
		}
	})
	dc.OnOpen(func() {
		l.mu.Lock()
		if l.st == linkNew {
			l.st, l.channel = linkOpen, dc
		}
		l.mu.Unlock()
		l.notify()
	})
}

func (l *browserLink) die() {
	l.mu.Lock()
	changed := l.st != linkDead
	l.st = linkDead
	l.mu.Unlock()
	if changed {
		l.in.Close()
		l.notify()
	}
}

func (l *browserLink) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st
}

func (l *browserLink) read(p []byte) (int, error) {
	if l.next == nil {
		var one [1][]byte
		if _, err := l.in.Pop(context.Background(), one[:]); err != nil {
			return 0, errLinkClosed
		}
		l.next = one[0]
	}
	if len(l.next) > len(p) {
		return 0, io.ErrShortBuffer
	}
	n := copy(p, l.next)
	l.next = nil
	return n, nil
}

func (l *browserLink) write(p []byte) error {
	l.mu.Lock()
	channel := l.channel
	l.mu.Unlock()
	for channel.BufferedAmount() > sendAbove {
		select {
		case <-l.low:
		case <-l.in.Done():
			return errLinkClosed
		}
	}
	return channel.Send(p)
}

// heard counts the bytes of messages: a browser does not tell more without a promise.
func (l *browserLink) heard() uint64 { return l.bytes.Load() }

// path is not known in a browser.
func (l *browserLink) path() (PathKind, string, string) { return PathNone, "", "" }

func (l *browserLink) close() {
	l.once.Do(func() {
		l.die()
		_ = l.pc.Close()
	})
}
