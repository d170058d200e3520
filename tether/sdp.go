package tether

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pion/webrtc/v4"

	"github.com/veil-net/anchor/internal/wire"
)

// Nobody sends SDP here: signalling carries a wire.Description, and the text that a WebRTC
// implementation wants is made from it on the spot. What a peer says can thus never bring in
// a line that we did not write.

// sdpText is the session description (RFC 8866) of an end that says d: one data channel
// section (RFC 8841), candidates by trickle.
func sdpText(d wire.Description) string {
	return "v=0\r\n" +
		"o=- 1 1 IN IP4 127.0.0.1\r\n" +
		"s=-\r\n" +
		"t=0 0\r\n" +
		"a=group:BUNDLE 0\r\n" +
		"a=ice-options:trickle\r\n" +
		"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n" +
		"c=IN IP4 0.0.0.0\r\n" +
		"a=mid:0\r\n" +
		"a=sendrecv\r\n" +
		"a=setup:" + d.Setup.String() + "\r\n" +
		"a=fingerprint:sha-256 " + formatFingerprint(d.Fingerprint) + "\r\n" +
		"a=ice-ufrag:" + d.Ufrag + "\r\n" +
		"a=ice-pwd:" + d.Pwd + "\r\n" +
		"a=sctp-port:5000\r\n" +
		"a=max-message-size:" + fmt.Sprint(wire.MaxMessage) + "\r\n"
}

// parseSDP finds in a session description of our own side what goes into signalling.
func parseSDP(text string, setup wire.SetupRole) (wire.Description, error) {
	d := wire.Description{Setup: setup}
	var err error
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		switch key {
		case "a=ice-ufrag":
			d.Ufrag = value
		case "a=ice-pwd":
			d.Pwd = value
		case "a=fingerprint":
			algorithm, digest, _ := strings.Cut(value, " ")
			if strings.EqualFold(algorithm, "sha-256") {
				d.Fingerprint, err = parseFingerprint(digest)
			}
		}
	}
	if err != nil {
		return wire.Description{}, err
	}
	if !d.Valid() || d.Fingerprint == [32]byte{} {
		return wire.Description{}, fmt.Errorf("tether: own session description lacks credentials or a SHA-256 fingerprint")
	}
	return d, nil
}

// formatFingerprint writes a digest as RFC 8122 section 5 does: upper-case hex with colons.
func formatFingerprint(f [32]byte) string {
	var b strings.Builder
	for i, c := range f {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return b.String()
}

func parseFingerprint(s string) ([32]byte, error) {
	p, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(p) != 32 {
		return [32]byte{}, fmt.Errorf("tether: %d characters are not a SHA-256 fingerprint", len(s))
	}
	return [32]byte(p), nil
}

// candidateText is the candidate attribute (RFC 8839 section 5.1) for c. The foundation
// groups by type and family, which is all that ours is used for; the related address is
// withheld, as RFC 8839 allows.
func candidateText(c wire.Candidate) string {
	family, none := 4, "0.0.0.0"
	if c.Addr.Addr().Is6() {
		family, none = 6, "::"
	}
	s := fmt.Sprintf("candidate:%d%d 1 udp %d %s %d typ %s", c.Type, family, c.Priority, c.Addr.Addr(), c.Addr.Port(), c.Type)
	if c.Type != wire.CandidateHost {
		s += " raddr " + none + " rport 0"
	}
	return s
}

// candidateInit is c as a WebRTC implementation takes it.
func candidateInit(c wire.Candidate) webrtc.ICECandidateInit {
	mid, line := "0", uint16(0)
	return webrtc.ICECandidateInit{Candidate: candidateText(c), SDPMid: &mid, SDPMLineIndex: &line}
}

// candidateFrom turns a gathered candidate into what signalling carries. It reports false
// for one that cannot be sent: TCP, an mDNS name, an IPv6 link-local address, which means
// nothing without a zone.
func candidateFrom(c *webrtc.ICECandidate) (wire.Candidate, bool) {
	addr, err := netip.ParseAddr(c.Address)
	if err != nil || c.Protocol != webrtc.ICEProtocolUDP {
		return wire.Candidate{}, false
	}
	out := wire.Candidate{Priority: c.Priority, Addr: netip.AddrPortFrom(addr.Unmap().WithZone(""), c.Port)}
	switch c.Typ {
	case webrtc.ICECandidateTypeHost:
		out.Type = wire.CandidateHost
	case webrtc.ICECandidateTypeSrflx:
		out.Type = wire.CandidateSrflx
	case webrtc.ICECandidateTypePrflx:
		out.Type = wire.CandidatePrflx
	case webrtc.ICECandidateTypeRelay:
		out.Type = wire.CandidateRelay
	}
	return out, out.Valid() && !linkLocal6(addr)
}
