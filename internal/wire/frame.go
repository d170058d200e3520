package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A FrameKind says what a tether frame is. Frames go between neighbours only and are never
// forwarded; what they say is protected by the link's DTLS alone.
type FrameKind uint8

// The kinds of tether frame.
const (
	FrameHello           FrameKind = 0x80
	FrameHeartbeat       FrameKind = 0x81
	FrameAdverts         FrameKind = 0x82
	FrameQuestion        FrameKind = 0x83
	FrameSequenceRequest FrameKind = 0x84
	FrameRecordRequest   FrameKind = 0x85
	FrameRecord          FrameKind = 0x86
	FrameUnreachable     FrameKind = 0x87
	FrameReceipt         FrameKind = 0x88
	FrameCredit          FrameKind = 0x89
)

// String returns the kind's name.
func (k FrameKind) String() string {
	names := [...]string{"hello", "heartbeat", "adverts", "question", "sequence request", "record request", "record", "unreachable", "receipt", "credit"}
	if i := int(k) - int(FrameHello); i >= 0 && i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("frame 0x%02x", uint8(k))
}

// FrameHeaderSize is the length in bytes of a frame's header: version, kind, and the frame's
// number on its tether.
//
//	0 version = 1 | 1 kind >= 0x80 | 2-5 number | 6- body
const FrameHeaderSize = 6

// Errors of the frame decoders, besides ErrShort, ErrVersion and ErrLayout.
var (
	// ErrFrameKind says that a frame is of a kind that this version does not know.
	ErrFrameKind = errors.New("wire: unknown kind of tether frame")
	// ErrFrame says that a frame's body is not what its kind prescribes.
	ErrFrame = errors.New("wire: malformed tether frame")
)

// IsFrame reports whether m, as it came from a link, is a tether frame and not a message.
func IsFrame(m []byte) bool { return len(m) >= 2 && m[1] >= byte(FrameHello) }

// FrameHeader is what every tether frame starts with.
type FrameHeader struct {
	Kind FrameKind
	// Number counts the frames that one end sent over a tether, all links together. It wraps:
	// compare with serial number arithmetic (RFC 1982).
	Number uint32
}

func (h FrameHeader) append(b []byte) []byte {
	b = append(b, Version, byte(h.Kind))
	return binary.BigEndian.AppendUint32(b, h.Number)
}

// ParseFrame reads the header of frame m and returns the body, a part of m.
func ParseFrame(m []byte) (h FrameHeader, body []byte, err error) {
	switch {
	case len(m) < FrameHeaderSize:
		return FrameHeader{}, nil, ErrShort
	case m[0] != Version:
		return FrameHeader{}, nil, ErrVersion
	case m[1] < byte(FrameHello) || m[1] > byte(FrameCredit):
		return FrameHeader{}, nil, ErrFrameKind
	}
	h = FrameHeader{Kind: FrameKind(m[1]), Number: binary.BigEndian.Uint32(m[2:])}
	return h, m[FrameHeaderSize:], nil
}

// Hello is the first frame each way on a link. A tether is up once it came from the session
// that the signalling was with.
//
//	0-31 session | 32-63 peer's session | 64-71 list number | 72-73 W in ms
type Hello struct {
	Session Nonce // of the sender
	Peer    Nonce // of the receiver, as the sender knows it
	List    uint64
	// Window is W in milliseconds: how long after an echoed heartbeat the sender's
	// neighbour may believe its adverts.
	Window uint16
}

// Limits of Hello.Window in milliseconds.
const (
	MinWindow = 500
	MaxWindow = 3000
)

const helloSize = 2*len(Nonce{}) + 8 + 2

// HelloSize is the length in bytes of a hello, header included.
const HelloSize = FrameHeaderSize + helloSize

// Append appends the frame with that number to b.
func (h *Hello) Append(b []byte, number uint32) []byte {
	b = FrameHeader{FrameHello, number}.append(b)
	b = append(b, h.Session[:]...)
	b = append(b, h.Peer[:]...)
	b = binary.BigEndian.AppendUint64(b, h.List)
	return binary.BigEndian.AppendUint16(b, h.Window)
}

// ParseHello reads the body of a hello.
func ParseHello(body []byte) (Hello, error) {
	if len(body) != helloSize {
		return Hello{}, ErrFrame
	}
	h := Hello{
		Session: Nonce(body[:32]), Peer: Nonce(body[32:64]),
		List: binary.BigEndian.Uint64(body[64:]), Window: binary.BigEndian.Uint16(body[72:]),
	}
	if h.Session == (Nonce{}) || h.Peer == (Nonce{}) || h.Window < MinWindow || h.Window > MaxWindow {
		return Hello{}, ErrFrame
	}
	return h, nil
}

// MaxLinks is the largest number of links that one heartbeat reports about.
const MaxLinks = 8

// LinkReport says what arrived over one link of a tether.
type LinkReport struct {
	// Link is the link's number between the two anchors: the low half of the counter in its
	// link id.
	Link uint32
	// Received counts the messages, frames apart, that arrived over the link.
	Received uint64
	// Bitmap has bit i set if the peer's heartbeat number Echo - i arrived over the link.
	Bitmap uint64
}

// Heartbeat says that its sender lives, and acknowledges what came over the links.
//
//	0-3 number | 4-7 echo | 8-11 hold in us | 12 n | n x (link u32, received u64, bitmap u64)
type Heartbeat struct {
	// Number counts the sender's heartbeats from 1; it wraps past 0.
	Number uint32
	// Echo is the newest heartbeat number that came from the peer; 0 if none.
	Echo uint32
	// Hold is how many microseconds ago it came, so that the peer can tell the path's round
	// trip from the wait until this heartbeat (as ACK Delay does in RFC 9000 section 19.3).
	Hold uint32
	// Links has the first N reports, in rising order of Link.
	Links [MaxLinks]LinkReport
	N     int
}

const (
	heartbeatSize = 13
	reportSize    = 20
)

// MaxHeartbeatSize is the length in bytes of the longest heartbeat, header included.
const MaxHeartbeatSize = FrameHeaderSize + heartbeatSize + MaxLinks*reportSize

// Append appends the frame with that number to b.
func (h *Heartbeat) Append(b []byte, number uint32) []byte {
	b = FrameHeader{FrameHeartbeat, number}.append(b)
	b = binary.BigEndian.AppendUint32(b, h.Number)
	b = binary.BigEndian.AppendUint32(b, h.Echo)
	b = binary.BigEndian.AppendUint32(b, h.Hold)
	b = append(b, byte(h.N))
	for i := range h.N {
		l := &h.Links[i]
		b = binary.BigEndian.AppendUint32(b, l.Link)
		b = binary.BigEndian.AppendUint64(b, l.Received)
		b = binary.BigEndian.AppendUint64(b, l.Bitmap)
	}
	return b
}

// ParseHeartbeat reads the body of a heartbeat into h.
func (h *Heartbeat) Parse(body []byte) error {
	*h = Heartbeat{}
	if len(body) < heartbeatSize {
		return ErrFrame
	}
	n := int(body[12])
	if n > MaxLinks || len(body) != heartbeatSize+n*reportSize {
		return ErrFrame
	}
	h.Number = binary.BigEndian.Uint32(body)
	h.Echo = binary.BigEndian.Uint32(body[4:])
	h.Hold = binary.BigEndian.Uint32(body[8:])
	h.N = n
	if h.Number == 0 || h.Echo == 0 && h.Hold != 0 {
		return ErrFrame
	}
	for i := range n {
		p := body[heartbeatSize+i*reportSize:]
		h.Links[i] = LinkReport{
			Link:     binary.BigEndian.Uint32(p),
			Received: binary.BigEndian.Uint64(p[4:]),
			Bitmap:   binary.BigEndian.Uint64(p[12:]),
		}
		if i > 0 && h.Links[i].Link <= h.Links[i-1].Link {
			return ErrFrame
		}
	}
	return nil
}
