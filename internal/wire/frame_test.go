package wire

import (
	"bytes"
	"errors"
	"testing"
)

func goldenHello() *Hello {
	return &Hello{Session: Nonce(fill(32, 1)), Peer: Nonce(fill(32, 2)), List: 0x0102030405060708, Window: 750}
}

func goldenHeartbeat() *Heartbeat {
	h := &Heartbeat{Number: 0x01020304, Echo: 0x11121314, Hold: 0x21222324, N: 2}
	h.Links[0] = LinkReport{Link: 7, Received: 0x3132333435363738, Bitmap: 0x4142434445464748}
	h.Links[1] = LinkReport{Link: 9, Received: 1, Bitmap: 1 << 63}
	return h
}

// decodeFrame reads a frame and encodes what it read again.
func decodeFrame(b []byte) ([]byte, error) {
	head, body, err := ParseFrame(b)
	if err != nil {
		return nil, err
	}
	switch head.Kind {
	case FrameHello:
		h, err := ParseHello(body)
		if err != nil {
			return nil, err
		}
		return h.Append(nil, head.Number), nil
	case FrameHeartbeat:
		var h Heartbeat
		if err := h.Parse(body); err != nil {
			return nil, err
		}
		return h.Append(nil, head.Number), nil
	}
	return nil, ErrFrameKind // no layout here yet
}

func frameSamples() map[string][]byte {
	bare := &Heartbeat{Number: 1}
	return map[string][]byte{
		"framehello":         goldenHello().Append(nil, 1),
		"frameheartbeat":     goldenHeartbeat().Append(nil, 0xA1A2A3A4),
		"frameheartbeatbare": bare.Append(nil, 2),
	}
}

func TestFrameGolden(t *testing.T) {
	for name, b := range frameSamples() {
		golden(t, name, b)
		again, err := decodeFrame(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%s: decoded and encoded again it is %x", name, again)
		}
		if !IsFrame(b) {
			t.Errorf("%s does not pass for a frame", name)
		}
	}
	if got := len(goldenHello().Append(nil, 1)); got != HelloSize {
		t.Errorf("a hello has %d bytes, HelloSize says %d", got, HelloSize)
	}
	full := goldenHeartbeat()
	full.N = MaxLinks
	if got := len(full.Append(nil, 1)); got != MaxHeartbeatSize {
		t.Errorf("the longest heartbeat has %d bytes, MaxHeartbeatSize says %d", got, MaxHeartbeatSize)
	}
}

// TestFrameEveryBit flips every bit: a decoder refuses the frame, or reads something else.
func TestFrameEveryBit(t *testing.T) {
	for name, b := range frameSamples() {
		everyBit(t, name, b, decodeFrame)
	}
}

// everyBit checks that no two inputs that differ in one bit decode to the same.
func everyBit(t *testing.T, name string, b []byte, decode func([]byte) ([]byte, error)) (refused int) {
	t.Helper()
	for i := range len(b) * 8 {
		flipped := bytes.Clone(b)
		flipped[i/8] ^= 1 << (i % 8)
		again, err := decode(flipped)
		switch {
		case err != nil:
			refused++
		case !bytes.Equal(again, flipped):
			t.Errorf("%s: bit %d flipped, it decodes to %x", name, i, again)
		}
	}
	return refused
}

func TestFrameRefused(t *testing.T) {
	hello, beat := frameSamples()["framehello"], frameSamples()["frameheartbeat"]
	with := func(b []byte, at int, v ...byte) []byte {
		c := bytes.Clone(b)
		copy(c[at:], v)
		return c
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrShort},
		{"header cut", hello[:5], ErrShort},
		{"version 0", with(hello, 0, 0), ErrVersion},
		{"a message's kind", with(hello, 1, 1), ErrFrameKind},
		{"kind 0x8a", with(hello, 1, 0x8a), ErrFrameKind},
		{"kind 0xff", with(hello, 1, 0xff), ErrFrameKind},
		{"hello without body", hello[:FrameHeaderSize], ErrFrame},
		{"hello cut", hello[:len(hello)-1], ErrFrame},
		{"hello too long", append(bytes.Clone(hello), 0), ErrFrame},
		{"hello of session zero", with(hello, 6, make([]byte, 32)...), ErrFrame},
		{"hello to session zero", with(hello, 38, make([]byte, 32)...), ErrFrame},
		{"hello with W 499", with(hello, 78, 499>>8, 499&255), ErrFrame},
		{"hello with W 3001", with(hello, 78, 3001>>8, 3001&255), ErrFrame},
		{"heartbeat without body", beat[:FrameHeaderSize], ErrFrame},
		{"heartbeat cut", beat[:len(beat)-1], ErrFrame},
		{"heartbeat too long", append(bytes.Clone(beat), 0), ErrFrame},
		{"heartbeat number 0", with(beat, 6, 0, 0, 0, 0), ErrFrame},
		{"heartbeat holds nothing", with(beat, 10, 0, 0, 0, 0), ErrFrame},
		{"heartbeat of 3 links, 2 there", with(beat, 18, 3), ErrFrame},
		{"heartbeat of 255 links", with(beat, 18, 255), ErrFrame},
		{"heartbeat, links not rising", with(beat, 19, 0, 0, 0, 9), ErrFrame},
	} {
		if _, err := decodeFrame(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	long := &Heartbeat{Number: 1, N: MaxLinks}
	for i := range long.Links {
		long.Links[i].Link = uint32(i)
	}
	b := long.Append(nil, 1)
	if _, err := decodeFrame(b); err != nil {
		t.Errorf("a heartbeat about %d links: %v", MaxLinks, err)
	}
	b[18]++
	if _, err := decodeFrame(append(b, make([]byte, reportSize)...)); !errors.Is(err, ErrFrame) {
		t.Errorf("a heartbeat about %d links: %v", MaxLinks+1, err)
	}
}

func TestIsFrame(t *testing.T) {
	for b, want := range map[string]bool{"": false, "\x01": false, "\x01\x01": false, "\x01\x07": false, "\x01\x7f": false, "\x01\x80": true, "\x01\xff": true, "\x00\x80": true} {
		if IsFrame([]byte(b)) != want {
			t.Errorf("IsFrame(%x) is %v", b, !want)
		}
	}
}

func TestFrameNames(t *testing.T) {
	if FrameHello.String() != "hello" || FrameCredit.String() != "credit" || FrameKind(0x7f).String() != "frame 0x7f" || FrameKind(0x8a).String() != "frame 0x8a" {
		t.Error("a kind of frame has another name")
	}
}

func FuzzFrame(f *testing.F) {
	for _, b := range frameSamples() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if again, err := decodeFrame(b); err == nil && !bytes.Equal(again, b) {
			t.Fatalf("decoded %x, encoded again %x", b, again)
		}
	})
}
