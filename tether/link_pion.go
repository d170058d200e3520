//go:build !js

package tether

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"github.com/veil-net/anchor/internal/wire"
)

// Settings of pion, the same for every link. Where a default stands in the way, the comment
// says how.
const (
	// sctpRTOMax caps the back-off of SCTP's retransmissions, 60 s by default: after an outage
	// data flows again within it. Its least is 1 s in this pion, so it is 1 s always.
	sctpRTOMax = time.Second
	// dtlsWindow is how many packets late one may come; by default 64, and a packet older
	// than that counts as lost above.
	dtlsWindow = 8192
	// dtlsRetransmit is the first wait of the DTLS handshake before it sends again (RFC 6347
	// section 4.2.4.1), 1 s by default.
	dtlsRetransmit = 300 * time.Millisecond
	// maxChecks lets checks of a candidate pair go on as long as the attempt lasts: after 7,
	// the default, a path that opens later would never be found.
	maxChecks = 65535
	// How long the controlling side waits for something better before it takes a pair with a
	// candidate of that type.
	srflxWait, prflxWait, relayWait = 100 * time.Millisecond, 0, 500 * time.Millisecond
	// certificateLife is how long one DTLS certificate serves new links; pion's are valid for
	// 30 days.
	certificateLife = 24 * time.Hour
)

// pionMaker makes links of pion's RTCPeerConnections.
type pionMaker struct {
	api     *webrtc.API
	servers []webrtc.ICEServer

	mu          sync.Mutex
	certificate *webrtc.Certificate
	made        time.Time
}

func newLinkMaker(o linkOptions) (linkMaker, error) {
	n := o.net
	if n == nil {
		var err error
		if n, err = newSocketNet(); err != nil {
			return nil, fmt.Errorf("tether: list network interfaces: %w", err)
		}
	}
	var se webrtc.SettingEngine
	se.LoggerFactory = pionLog{o.log}
	se.SetNet(&filterNet{n, o.usable})
	se.SetIncludeLoopbackCandidate(o.loopback)
	se.SetRemoteIPFilter(func(ip net.IP) bool {
		addr, ok := fromIP(ip)
		return ok && o.usable("", addr)
	})
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}) // no ICE-TCP: it bypasses Net
	se.DisableActiveTCP(true)
	// Whether a link lives is ours to say: no timeouts, and no keep-alives beside heartbeats.
	se.SetICETimeouts(0, 0, 0)
	se.SetICEMaxBindingRequests(maxChecks)
	se.SetSrflxAcceptanceMinWait(srflxWait)
	se.SetPrflxAcceptanceMinWait(prflxWait)
	se.SetRelayAcceptanceMinWait(relayWait)
	// The cookie exchange (RFC 6347 section 4.2.1) proves the client's address, as ICE has already.
	se.SetDTLSInsecureSkipHelloVerify(true)
	se.SetDTLSRetransmissionInterval(dtlsRetransmit)
	se.SetDTLSReplayProtectionWindow(dtlsWindow)
	se.EnableSCTPZeroChecksum(true) // RFC 9653: DTLS protects the packets
	se.SetSCTPMaxReceiveBufferSize(sctpBuffer)
	se.SetSCTPRTOMax(sctpRTOMax)
	se.DetachDataChannels()
	se.EnableDataChannelBlockWrite(true)

	m := &pionMaker{api: webrtc.NewAPI(
		webrtc.WithSettingEngine(se),
		webrtc.WithMediaEngine(&webrtc.MediaEngine{}),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}),
	)}
	for _, s := range o.servers {
		m.servers = append(m.servers, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	return m, nil
}

// current returns the certificate for new links, a new one once it is a day old.
func (m *pionMaker) current() (*webrtc.Certificate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.certificate != nil && time.Since(m.made) < certificateLife {
		return m.certificate, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("tether: make DTLS key: %w", err)
	}
	c, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("tether: make DTLS certificate: %w", err)
	}
	m.certificate, m.made = c, time.Now()
	return c, nil
}

func (m *pionMaker) newLink(notify func()) (link, error) {
	cert, err := m.current()
	if err != nil {
		return nil, err
	}
	fps, err := cert.GetFingerprints()
	if err != nil {
		return nil, fmt.Errorf("tether: DTLS fingerprint: %w", err)
	}
	l := &pionLink{notify: notify}
	if l.fingerprint, err = parseFingerprint(fps[0].Value); err != nil {
		return nil, err
	}
	l.pc, err = m.api.NewPeerConnection(webrtc.Configuration{ICEServers: m.servers, Certificates: []webrtc.Certificate{*cert}})
	if err != nil {
		return nil, fmt.Errorf("tether: new link: %w", err)
	}
	l.pc.OnICECandidate(l.gathered)
	l.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateFailed || s == webrtc.PeerConnectionStateClosed {
			l.die()
		}
	})
	l.pc.OnDataChannel(l.offered)
	return l, nil
}

// pionLink is a link on one RTCPeerConnection.
type pionLink struct {
	pc          *webrtc.PeerConnection
	fingerprint [32]byte
	notify      func()
	closeOnce   sync.Once

	mu       sync.Mutex
	cands    []wire.Candidate
	complete bool
	st       linkState
	channel  dataChannel // set once st is linkOpen
}

// dataChannel is what we use of a detached data channel.
type dataChannel interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

func (l *pionLink) describe() (wire.Description, bool) {
	p, err := l.pc.SCTP().Transport().ICETransport().GetLocalParameters()
	d := wire.Description{Setup: wire.SetupActive, Fingerprint: l.fingerprint, Ufrag: p.UsernameFragment, Pwd: p.Password}
	return d, err == nil && d.Valid()
}

func (l *pionLink) offer() (wire.Description, error) {
	// Ordered is false and Negotiated too: this pion sends negotiated channels in order,
	// whatever is asked, because only DCEP (RFC 8832) makes it apply the channel's type.
	ordered, protocol := false, channelProtocol
	dc, err := l.pc.CreateDataChannel(channelLabel, &webrtc.DataChannelInit{Ordered: &ordered, Protocol: &protocol})
	if err != nil {
		return wire.Description{}, fmt.Errorf("tether: create data channel: %w", err)
	}
	dc.OnOpen(func() { l.opened(dc) })
	o, err := l.pc.CreateOffer(nil)
	if err != nil {
		return wire.Description{}, fmt.Errorf("tether: create offer: %w", err)
	}
	if err := l.pc.SetLocalDescription(o); err != nil {
		return wire.Description{}, fmt.Errorf("tether: set own offer: %w", err)
	}
	return parseSDP(o.SDP, wire.SetupActpass)
}

func (l *pionLink) accept(d wire.Description) error {
	if err := l.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdpText(d)}); err != nil {
		return fmt.Errorf("tether: set peer's answer: %w", err)
	}
	return nil
}

func (l *pionLink) answer(d wire.Description) (wire.Description, error) {
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

func (l *pionLink) add(c wire.Candidate) error {
	if err := l.pc.AddICECandidate(candidateInit(c)); err != nil {
		return fmt.Errorf("tether: add candidate: %w", err)
	}
	return nil
}

// gathered takes a local candidate, nil after the last.
func (l *pionLink) gathered(c *webrtc.ICECandidate) {
	l.mu.Lock()
	if c == nil {
		l.complete = true
	} else if w, ok := candidateFrom(c); ok && len(l.cands) < wire.MaxCandidates {
		l.cands = append(l.cands, w)
	}
	l.mu.Unlock()
	l.notify()
}

func (l *pionLink) candidates() ([]wire.Candidate, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cands[:len(l.cands):len(l.cands)], l.complete
}

// offered takes the data channel that the offerer opens; any other ends the link.
func (l *pionLink) offered(dc *webrtc.DataChannel) {
	if dc.Ordered() || dc.MaxRetransmits() != nil || dc.MaxPacketLifeTime() != nil ||
		dc.Label() != channelLabel || dc.Protocol() != channelProtocol {
		l.die()
		return
	}
	dc.OnOpen(func() { l.opened(dc) })
}

func (l *pionLink) opened(dc *webrtc.DataChannel) {
	rw, err := dc.DetachWithDeadline()
	if err != nil {
		l.die()
		return
	}
	l.mu.Lock()
	if l.st != linkNew { // closed meanwhile, or a second channel
		l.mu.Unlock()
		return
	}
	l.st, l.channel = linkOpen, rw
	l.mu.Unlock()
	l.notify()
}

func (l *pionLink) die() {
	l.mu.Lock()
	changed := l.st != linkDead
	l.st = linkDead
	l.mu.Unlock()
	if changed {
		l.notify()
	}
}

func (l *pionLink) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st
}

// read and write are called once the link was open, and channel does not change after that.
func (l *pionLink) read(p []byte) (int, error) { return l.channel.Read(p) }

func (l *pionLink) write(p []byte) error {
	_, err := l.channel.Write(p)
	return err
}

func (l *pionLink) heard() uint64 { return l.pc.SCTP().Stats().BytesReceived }

func (l *pionLink) path() (PathKind, string, string) {
	pair, err := l.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return PathNone, "", ""
	}
	kind := PathDirect
	if pair.Local.Typ == webrtc.ICECandidateTypeRelay || pair.Remote.Typ == webrtc.ICECandidateTypeRelay {
		kind = PathRelayed
	}
	return kind, hostPort(pair.Local), hostPort(pair.Remote)
}

func hostPort(c *webrtc.ICECandidate) string {
	return net.JoinHostPort(c.Address, fmt.Sprint(c.Port))
}

func (l *pionLink) close() {
	l.closeOnce.Do(func() {
		l.mu.Lock()
		channel := l.channel
		l.st = linkDead
		l.mu.Unlock()
		if channel != nil {
			// A write that waits for a path that is gone returns now, and a read too: pion takes
			// up to 0.4 s to abort an association whose peer has just ended it.
			_ = channel.SetWriteDeadline(time.Unix(1, 0))
			_ = channel.SetReadDeadline(time.Unix(1, 0))
		}
		_ = l.pc.GracefulClose()
	})
}
