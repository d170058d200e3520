package wire

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Tether signalling: four small layouts that say what two WebRTC ends must know of each
// other, in place of SDP. The channel that carries them authenticates their sender; the ids
// and session nonces inside bind them to one pair of sessions all the same.
//
//	 0 version = 1 | 1 type | 2-33 from | 34-65 to | 66-97 from's session | 98-129 to's session | 130-
//	 ask        id(16) | newest u64 | has description(1) | [description]
//	 offer      link id(16) | ask id(16, zero if none) | description | candidates
//	 answer     link id(16) | H(offer)(32) | description | candidates
//	 candidate  link id(16) | H(offer)(32) | candidates, at least one
//
//	 description  setup role(1) | SHA-256 fingerprint(32) | u8 length, ufrag | u8 length, pwd
//	 candidates   index of the first(1) | n(1) | n x candidate
//	 candidate    type(1) | priority u32 | family(1, 4 or 6) | address(4 or 16) | port u16

// SignalType says what a signalling message is.
type SignalType uint8

// The types of signalling message.
const (
	SignalAsk       SignalType = 1
	SignalOffer     SignalType = 2
	SignalAnswer    SignalType = 3
	SignalCandidate SignalType = 4
)

// String returns the type's name.
func (t SignalType) String() string {
	names := [...]string{"signal 0", "ask", "offer", "answer", "candidate"}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown signal"
}

// ErrSignal says that a signalling message does not have the layout of its type.
var ErrSignal = errors.New("wire: malformed signalling message")

// LinkID names one attempt at a link between two sessions, or one ask for it. Its first 8
// bytes count the attempts (or asks) of the side that draws it, so that a receiver tells a
// newer one from an older one that was delayed; the rest is random.
type LinkID [16]byte

// Counter is the count in the id.
func (id LinkID) Counter() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// SetupRole is the DTLS role that a side takes (RFC 8842 section 5).
type SetupRole uint8

// The setup roles. An offer says actpass, an answer active or passive.
const (
	SetupActpass SetupRole = 0
	SetupActive  SetupRole = 1
	SetupPassive SetupRole = 2
)

// String returns the role as SDP writes it.
func (r SetupRole) String() string {
	switch r {
	case SetupActive:
		return "active"
	case SetupPassive:
		return "passive"
	}
	return "actpass"
}

// Description is what one end of a link says of itself.
type Description struct {
	Setup       SetupRole
	Fingerprint [32]byte // SHA-256 of the DTLS certificate (RFC 8122)
	Ufrag, Pwd  string   // ICE credentials (RFC 8839 section 5.4)
}

// Lengths of ICE credentials in characters (RFC 8839 section 5.4; its upper limit of 256
// does not fit a byte and nobody uses it).
const (
	minUfrag, minPwd = 4, 22
	maxCredential    = 255
)

// CandidateType is the type of an ICE candidate (RFC 8445 section 4).
type CandidateType uint8

// The types of candidate.
const (
	CandidateHost  CandidateType = 1
	CandidateSrflx CandidateType = 2
	CandidatePrflx CandidateType = 3
	CandidateRelay CandidateType = 4
)

// String returns the type as SDP writes it.
func (t CandidateType) String() string {
	switch t {
	case CandidateHost:
		return "host"
	case CandidateSrflx:
		return "srflx"
	case CandidatePrflx:
		return "prflx"
	case CandidateRelay:
		return "relay"
	}
	return "unknown"
}

// Candidate is an ICE candidate over UDP, component 1. Its address has no zone and is never
// an IPv4-mapped one; its port is never 0.
type Candidate struct {
	Type     CandidateType
	Priority uint32
	Addr     netip.AddrPort
}

// MaxCandidates is the largest number of candidates of one end of a link.
const MaxCandidates = 32

// Signal is a signalling message of any type; which fields it has follows from Type.
type Signal struct {
	Type                   SignalType
	From, To               [32]byte // anchor ids
	FromSession, ToSession Nonce

	// Link is the link id; of an ask it is the ask's own id.
	Link LinkID
	// Ask is the ask that an offer answers; zero if none.
	Ask LinkID
	// Newest is, in an ask, the highest counter among the offers that the asking side has
	// seen from ToSession.
	Newest uint64
	// Offer is H(offer), in an answer and a candidate.
	Offer [32]byte
	// HasDescription says whether an ask carries its sender's description already.
	HasDescription bool
	Description    Description
	// First is the index of the first of Candidates among its sender's.
	First      uint8
	Candidates []Candidate
}

const signalHeader = 2 + 4*32

// Append appends the message to b. It assumes what Parse would accept.
func (s *Signal) Append(b []byte) []byte {
	b = append(b, Version, byte(s.Type))
	b = append(b, s.From[:]...)
	b = append(b, s.To[:]...)
	b = append(b, s.FromSession[:]...)
	b = append(b, s.ToSession[:]...)
	b = append(b, s.Link[:]...)
	switch s.Type {
	case SignalAsk:
		b = binary.BigEndian.AppendUint64(b, s.Newest)
		if !s.HasDescription {
			return append(b, 0)
		}
		return s.Description.append(append(b, 1))
	case SignalOffer:
		b = append(b, s.Ask[:]...)
		b = s.Description.append(b)
	case SignalAnswer:
		b = append(b, s.Offer[:]...)
		b = s.Description.append(b)
	case SignalCandidate:
		b = append(b, s.Offer[:]...)
	}
	b = append(b, s.First, byte(len(s.Candidates)))
	for _, c := range s.Candidates {
		b = c.append(b)
	}
	return b
}

func (d *Description) append(b []byte) []byte {
	b = append(b, byte(d.Setup))
	b = append(b, d.Fingerprint[:]...)
	b = append(b, byte(len(d.Ufrag)))
	b = append(b, d.Ufrag...)
	b = append(b, byte(len(d.Pwd)))
	return append(b, d.Pwd...)
}

func (c *Candidate) append(b []byte) []byte {
	b = append(b, byte(c.Type))
	b = binary.BigEndian.AppendUint32(b, c.Priority)
	if a := c.Addr.Addr(); a.Is4() {
		a4 := a.As4()
		b = append(append(b, 4), a4[:]...)
	} else {
		a16 := a.As16()
		b = append(append(b, 6), a16[:]...)
	}
	return binary.BigEndian.AppendUint16(b, c.Addr.Port())
}

// ParseSignal reads a signalling message. The result holds no reference to b.
func ParseSignal(b []byte) (*Signal, error) {
	switch {
	case len(b) < signalHeader:
		return nil, ErrShort
	case b[0] != Version:
		return nil, ErrVersion
	}
	s := &Signal{
		Type: SignalType(b[1]),
		From: [32]byte(b[2:34]), To: [32]byte(b[34:66]),
		FromSession: Nonce(b[66:98]), ToSession: Nonce(b[98:130]),
	}
	r := signalReader{b: b[signalHeader:]}
	copy(s.Link[:], r.take(len(s.Link)))
	switch s.Type {
	case SignalAsk:
		s.Newest = r.u64()
		switch r.u8() {
		case 0:
		case 1:
			s.HasDescription = true
			s.Description = r.description()
		default:
			r.bad = true
		}
	case SignalOffer:
		copy(s.Ask[:], r.take(len(s.Ask)))
		s.Description = r.description()
		s.First, s.Candidates = r.candidates()
	case SignalAnswer:
		copy(s.Offer[:], r.take(len(s.Offer)))
		s.Description = r.description()
		s.First, s.Candidates = r.candidates()
	case SignalCandidate:
		copy(s.Offer[:], r.take(len(s.Offer)))
		s.First, s.Candidates = r.candidates()
	default:
		return nil, ErrSignal
	}
	if r.bad || len(r.b) != 0 || !s.plausible() {
		return nil, ErrSignal
	}
	return s, nil
}

// plausible checks what holds between fields.
func (s *Signal) plausible() bool {
	switch {
	case s.From == s.To, s.FromSession == (Nonce{}), s.ToSession == (Nonce{}), s.Link == (LinkID{}):
		return false
	case s.Type == SignalOffer && s.Description.Setup != SetupActpass:
		return false
	case s.Type == SignalAnswer && s.Description.Setup == SetupActpass:
		return false
	case s.Type == SignalAsk && s.HasDescription && s.Description.Setup == SetupActpass:
		return false
	case s.Type == SignalCandidate && len(s.Candidates) == 0:
		return false
	case (s.Type == SignalOffer || s.Type == SignalAnswer) && s.First != 0:
		return false
	}
	return true
}

// signalReader takes fields from the front of b; the first that is missing or malformed sets bad.
type signalReader struct {
	b   []byte
	bad bool
}

func (r *signalReader) take(n int) []byte {
	if len(r.b) < n {
		r.bad, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *signalReader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *signalReader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *signalReader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *signalReader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *signalReader) description() Description {
	d := Description{Setup: SetupRole(r.u8())}
	copy(d.Fingerprint[:], r.take(len(d.Fingerprint)))
	d.Ufrag = string(r.take(int(r.u8())))
	d.Pwd = string(r.take(int(r.u8())))
	if d.Setup > SetupPassive || !iceString(d.Ufrag, minUfrag) || !iceString(d.Pwd, minPwd) {
		r.bad = true
	}
	return d
}

func (r *signalReader) candidates() (first uint8, cs []Candidate) {
	first = r.u8()
	n := int(r.u8())
	if int(first)+n > MaxCandidates || n == 0 && first != 0 {
		r.bad = true
		return 0, nil
	}
	for i := 0; i < n && !r.bad; i++ {
		cs = append(cs, r.candidate())
	}
	return first, cs
}

func (r *signalReader) candidate() Candidate {
	c := Candidate{Type: CandidateType(r.u8()), Priority: r.u32()}
	size := 0
	switch r.u8() {
	case 4:
		size = 4
	case 6:
		size = 16
	default:
		r.bad = true
	}
	a, _ := netip.AddrFromSlice(r.take(size))
	c.Addr = netip.AddrPortFrom(a, r.u16())
	if !c.Valid() {
		r.bad = true
	}
	return c
}

// Valid reports whether a signalling message may carry the candidate.
func (c *Candidate) Valid() bool {
	a := c.Addr.Addr()
	return c.Type >= CandidateHost && c.Type <= CandidateRelay && a.IsValid() && !a.Is4In6() && a.Zone() == "" &&
		!a.IsUnspecified() && !a.IsMulticast() && c.Addr.Port() != 0
}

// Valid reports whether a signalling message may carry the description.
func (d *Description) Valid() bool {
	return d.Setup <= SetupPassive && iceString(d.Ufrag, minUfrag) && iceString(d.Pwd, minPwd)
}

// iceString reports whether s consists of ice-chars (RFC 8839 section 5.4), which also keeps
// line ends out of the SDP that is made from it.
func iceString(s string, shortest int) bool {
	if len(s) < shortest || len(s) > maxCredential {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '+' || c == '/') {
			return false
		}
	}
	return true
}
