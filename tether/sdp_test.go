package tether

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"

	"github.com/veil-net/anchor/internal/wire"
)

func testDescription() wire.Description {
	d := wire.Description{Setup: wire.SetupActive, Ufrag: "abcd", Pwd: "0123456789012345678901"}
	for i := range d.Fingerprint {
		d.Fingerprint[i] = byte(i * 9)
	}
	return d
}

func TestSDPRoundTrip(t *testing.T) {
	want := testDescription()
	got, err := parseSDP(sdpText(want), want.Setup)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("read %+v, written %+v", got, want)
	}
	if _, err := (&webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdpText(want)}).Unmarshal(); err != nil {
		t.Errorf("another parser: %v", err)
	}
}

func TestParseSDPRefuses(t *testing.T) {
	good := sdpText(testDescription())
	for name, text := range map[string]string{
		"nothing":         "",
		"no ufrag":        strings.Replace(good, "a=ice-ufrag", "a=x", 1),
		"no pwd":          strings.Replace(good, "a=ice-pwd", "a=x", 1),
		"no fingerprint":  strings.Replace(good, "a=fingerprint", "a=x", 1),
		"other digest":    strings.Replace(good, "sha-256", "sha-1", 1),
		"half a digest":   strings.Replace(good, "00:09:", "", 1),
		"no hex":          strings.Replace(good, "00:09:", "XX:09:", 1),
		"credential cut":  strings.Replace(good, "a=ice-pwd:0123456789012345678901", "a=ice-pwd:0123", 1),
		"fingerprint gap": strings.Replace(good, "a=fingerprint:sha-256 ", "a=fingerprint:sha-256", 1),
	} {
		if _, err := parseSDP(text, wire.SetupActive); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCandidateText(t *testing.T) {
	for _, c := range []wire.Candidate{
		{Type: wire.CandidateHost, Priority: 2130706431, Addr: netip.MustParseAddrPort("192.0.2.1:5000")},
		{Type: wire.CandidateHost, Priority: 1, Addr: netip.MustParseAddrPort("[2001:db8::1]:65535")},
		{Type: wire.CandidateSrflx, Priority: 1694498815, Addr: netip.MustParseAddrPort("192.0.2.1:1")},
		{Type: wire.CandidatePrflx, Priority: 7, Addr: netip.MustParseAddrPort("[2001:db8::2]:9")},
		{Type: wire.CandidateRelay, Priority: 16777215, Addr: netip.MustParseAddrPort("198.51.100.1:3478")},
	} {
		read, err := ice.UnmarshalCandidate(candidateText(c))
		if err != nil {
			t.Errorf("%s: %v", candidateText(c), err)
			continue
		}
		back := webrtc.ICECandidate{
			Priority: read.Priority(), Address: read.Address(), Port: uint16(read.Port()),
			Protocol: webrtc.ICEProtocolUDP,
		}
		if back.Typ, err = webrtc.NewICECandidateType(read.Type().String()); err != nil {
			t.Fatal(err)
		}
		if got, ok := candidateFrom(&back); !ok || got != c {
			t.Errorf("%s became %+v", candidateText(c), got)
		}
	}
}

func TestCandidateFromRefuses(t *testing.T) {
	good := webrtc.ICECandidate{Priority: 1, Address: "192.0.2.1", Port: 5, Protocol: webrtc.ICEProtocolUDP, Typ: webrtc.ICECandidateTypeHost}
	if _, ok := candidateFrom(&good); !ok {
		t.Fatal("a good one is refused")
	}
	for name, change := range map[string]func(c *webrtc.ICECandidate){
		"TCP":        func(c *webrtc.ICECandidate) { c.Protocol = webrtc.ICEProtocolTCP },
		"mDNS name":  func(c *webrtc.ICECandidate) { c.Address = "6f0a.local" },
		"link-local": func(c *webrtc.ICECandidate) { c.Address = "fe80::1%eth0" },
		"port 0":     func(c *webrtc.ICECandidate) { c.Port = 0 },
		"no type":    func(c *webrtc.ICECandidate) { c.Typ = webrtc.ICECandidateTypeUnknown },
	} {
		c := good
		change(&c)
		if got, ok := candidateFrom(&c); ok {
			t.Errorf("%s became %+v", name, got)
		}
	}
}
