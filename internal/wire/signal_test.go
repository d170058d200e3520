package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func signalSample(t SignalType) *Signal {
	s := &Signal{
		Type: t, From: [32]byte(fill(32, 3)), To: [32]byte(fill(32, 4)),
		FromSession: Nonce(fill(32, 5)), ToSession: Nonce(fill(32, 6)),
		Link: LinkID(fill(16, 7)),
	}
	d := Description{
		Setup: SetupActive, Fingerprint: [32]byte(fill(32, 8)),
		Ufrag: "AbCd", Pwd: "0123456789ABCDEFGHIJ+/",
	}
	cs := []Candidate{
		{CandidateHost, 2130706431, netip.MustParseAddrPort("127.0.0.1:40000")},
		{CandidateHost, 2130706175, netip.MustParseAddrPort("[2001:db8::1]:40001")},
		{CandidateSrflx, 1694498815, netip.MustParseAddrPort("192.0.2.7:1")},
		{CandidatePrflx, 1, netip.MustParseAddrPort("192.0.2.8:65535")},
		{CandidateRelay, 16777215, netip.MustParseAddrPort("198.51.100.3:50000")},
	}
	switch t {
	case SignalAsk:
		s.Newest, s.HasDescription, s.Description = 41, true, d
	case SignalOffer:
		d.Setup = SetupActpass
		s.Ask, s.Description, s.Candidates = LinkID(fill(16, 9)), d, cs
	case SignalAnswer:
		d.Setup = SetupPassive
		s.Offer, s.Description, s.Candidates = [32]byte(fill(32, 10)), d, cs[:1]
	case SignalCandidate:
		s.Offer, s.First, s.Candidates = [32]byte(fill(32, 10)), 3, cs[2:]
	}
	return s
}

func signalSamples() map[string]*Signal {
	bare := signalSample(SignalAsk)
	bare.HasDescription, bare.Description = false, Description{}
	offer := signalSample(SignalOffer)
	offer.Candidates = nil
	return map[string]*Signal{
		"signalask": signalSample(SignalAsk), "signalaskbare": bare,
		"signaloffer": signalSample(SignalOffer), "signalofferbare": offer,
		"signalanswer": signalSample(SignalAnswer), "signalcandidate": signalSample(SignalCandidate),
	}
}

func decodeSignal(b []byte) ([]byte, error) {
	s, err := ParseSignal(b)
	if err != nil {
		return nil, err
	}
	return s.Append(nil), nil
}

func TestSignalGolden(t *testing.T) {
	for name, s := range signalSamples() {
		b := s.Append(nil)
		golden(t, name, b)
		got, err := ParseSignal(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Errorf("%s: read %+v, written %+v", name, got, s)
		}
	}
}

func TestSignalEveryBit(t *testing.T) {
	for name, s := range signalSamples() {
		refused := everyBit(t, name, s.Append(nil), decodeSignal)
		t.Logf("%s: %d of %d flips are refused", name, refused, len(s.Append(nil))*8)
	}
}

func TestSignalEveryLength(t *testing.T) {
	for name, s := range signalSamples() {
		b := s.Append(nil)
		for n := range len(b) {
			if _, err := ParseSignal(b[:n]); err == nil {
				t.Errorf("%s cut to %d of %d bytes is read", name, n, len(b))
			}
		}
		if _, err := ParseSignal(append(b, 0)); err == nil {
			t.Errorf("%s with a byte behind is read", name)
		}
	}
}

func TestSignalRefused(t *testing.T) {
	for name, change := range map[string]func(s *Signal){
		"to oneself":          func(s *Signal) { s.To = s.From },
		"session zero":        func(s *Signal) { s.FromSession = Nonce{} },
		"to session zero":     func(s *Signal) { s.ToSession = Nonce{} },
		"link id zero":        func(s *Signal) { s.Link = LinkID{} },
		"offer is active":     func(s *Signal) { s.Description.Setup = SetupActive },
		"setup role 3":        func(s *Signal) { s.Description.Setup = 3 },
		"short ufrag":         func(s *Signal) { s.Description.Ufrag = "abc" },
		"short pwd":           func(s *Signal) { s.Description.Pwd = "012345678901234567890" },
		"line end in ufrag":   func(s *Signal) { s.Description.Ufrag = "abcd\r\na=x" },
		"space in pwd":        func(s *Signal) { s.Description.Pwd = "01234567890 1234567890" },
		"offer from index 1":  func(s *Signal) { s.First = 1 },
		"33 candidates":       func(s *Signal) { s.Candidates = repeat(s.Candidates[0], 33) },
		"candidate type 0":    func(s *Signal) { s.Candidates[0].Type = 0 },
		"candidate type 5":    func(s *Signal) { s.Candidates[0].Type = 5 },
		"candidate port 0":    func(s *Signal) { s.Candidates[0].Addr = netip.MustParseAddrPort("127.0.0.1:0") },
		"candidate 0.0.0.0":   func(s *Signal) { s.Candidates[0].Addr = netip.MustParseAddrPort("0.0.0.0:1") },
		"candidate multicast": func(s *Signal) { s.Candidates[0].Addr = netip.MustParseAddrPort("224.0.0.1:1") },
		"candidate mapped":    func(s *Signal) { s.Candidates[1].Addr = netip.MustParseAddrPort("[::ffff:192.0.2.1]:1") },
	} {
		s := signalSample(SignalOffer)
		change(s)
		if _, err := ParseSignal(s.Append(nil)); !errors.Is(err, ErrSignal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, s := range map[string]*Signal{
		"answer is actpass":       {Type: SignalAnswer, Description: Description{Setup: SetupActpass}},
		"ask is actpass":          {Type: SignalAsk, HasDescription: true, Description: Description{Setup: SetupActpass}},
		"candidate message empty": {Type: SignalCandidate},
	} {
		full := signalSample(s.Type)
		full.Description.Setup = s.Description.Setup
		if s.Type == SignalCandidate {
			full.First, full.Candidates = 0, nil
		}
		if _, err := ParseSignal(full.Append(nil)); !errors.Is(err, ErrSignal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	late := signalSample(SignalCandidate)
	late.First, late.Candidates = 30, late.Candidates[:3]
	if _, err := ParseSignal(late.Append(nil)); !errors.Is(err, ErrSignal) {
		t.Errorf("candidates 30 to 32: %v", err)
	}
	late.First = 29
	if _, err := ParseSignal(late.Append(nil)); err != nil {
		t.Errorf("candidates 29 to 31: %v", err)
	}
	b := signalSample(SignalAsk).Append(nil)
	for i, want := range map[int]error{0: ErrVersion, 1: ErrSignal} {
		c := bytes.Clone(b)
		c[i] = 99
		if _, err := ParseSignal(c); !errors.Is(err, want) {
			t.Errorf("byte %d is 99: %v, want %v", i, err, want)
		}
	}
	if _, err := ParseSignal(b[:signalHeader-1]); !errors.Is(err, ErrShort) {
		t.Errorf("a header cut short: %v", err)
	}
}

func repeat(c Candidate, n int) []Candidate {
	cs := make([]Candidate, n)
	for i := range cs {
		cs[i] = c
	}
	return cs
}

// TestSignalLimits has the longest of everything: it still fits a control message.
func TestSignalLimits(t *testing.T) {
	s := signalSample(SignalOffer)
	s.Description.Ufrag, s.Description.Pwd = strings.Repeat("u", 255), strings.Repeat("p", 255)
	s.Candidates = repeat(s.Candidates[1], MaxCandidates)
	b := s.Append(nil)
	if got, err := ParseSignal(b); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("the longest offer: %v", err)
	}
	if len(b) > 2048 {
		t.Errorf("the longest offer has %d bytes", len(b))
	}
	s.Description.Ufrag = strings.Repeat("u", 256) // the length wraps to 0
	if _, err := ParseSignal(s.Append(nil)); err == nil {
		t.Error("a ufrag of 256 characters is read")
	}
}

func TestLinkIDCounter(t *testing.T) {
	b, _ := hex.DecodeString("0000000000000102ffffffffffffffff")
	if got := LinkID(b).Counter(); got != 0x102 {
		t.Errorf("counter is %#x", got)
	}
}

func TestSignalNames(t *testing.T) {
	for got, want := range map[string]string{
		SignalAsk.String(): "ask", SignalOffer.String(): "offer", SignalAnswer.String(): "answer", SignalCandidate.String(): "candidate",
		SignalType(9).String(): "unknown signal", SetupActpass.String(): "actpass", SetupActive.String(): "active", SetupPassive.String(): "passive",
		CandidateHost.String(): "host", CandidateSrflx.String(): "srflx", CandidatePrflx.String(): "prflx", CandidateRelay.String(): "relay",
		CandidateType(9).String(): "unknown",
	} {
		if got != want {
			t.Errorf("%q should be %q", got, want)
		}
	}
}

func FuzzSignal(f *testing.F) {
	for _, s := range signalSamples() {
		f.Add(s.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if again, err := decodeSignal(b); err == nil && !bytes.Equal(again, b) {
			t.Fatalf("decoded %x, encoded again %x", b, again)
		}
	})
}
