package stream

import (
	"slices"
	"testing"
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

// A message is lost once 3 later ones over its own hop are acknowledged and 20 ms or srtt/4
// passed.
func TestLost(t *testing.T) {
	const ms = time.Millisecond
	s := NewSendState(1<<30, 0, epoch0)
	for n := range uint64(10) { // even numbers over A, odd ones over B
		hop := hopA
		if n%2 == 1 {
			hop = hopB
		}
		s.Sent(Sent{Number: n, Kind: wire.KindData, Size: 1, Hop: hop, At: epoch0})
	}
	lost := func(at time.Duration) []uint64 { return s.Lost(after(at), nil) }
	mustAck(t, s, ackOf(0, 1, 3, 5, 7, 9), 10*ms)
	if got := lost(10 * ms); got != nil {
		t.Errorf("lost %v by another hop's messages", got)
	}
	mustAck(t, s, ackOf(0, 1, 3, 4, 5, 7, 9), 20*ms)
	mustAck(t, s, ackOf(0, 1, 3, 4, 5, 6, 7, 9), 20*ms)
	if got := lost(100 * ms); got != nil {
		t.Errorf("lost %v after 2 later messages", got)
	}
	mustAck(t, s, ackOf(0, 1, 3, 4, 5, 6, 7, 8, 9), 100*ms)
	if got := lost(100 * ms); got != nil {
		t.Errorf("lost %v before time passed", got)
	}
	if got := lost(120*ms - 1); got != nil {
		t.Errorf("lost %v before 20 ms passed", got)
	}
	if got := lost(120 * ms); !slices.Equal(got, []uint64{0, 2}) {
		t.Errorf("lost %v, want 0 and 2", got)
	}
	s.Resent(0, hopB, after(120*ms))
	if got := lost(150 * ms); !slices.Equal(got, []uint64{2}) {
		t.Errorf("lost %v, want 2: 0 was resent", got)
	}
	s.GiveUp(2)
	if got := lost(time.Hour); got != nil {
		t.Errorf("lost %v after all was resent or given up", got)
	}
}

func TestLostWaitsForAQuarterOfTheRTT(t *testing.T) {
	s := NewSendState(1<<30, 400*time.Millisecond, epoch0)
	sendMany(s, 0, 4, hopA, 0)
	mustAck(t, s, ackOf(0, 1, 2, 3), 400*time.Millisecond)
	s.Lost(after(400*time.Millisecond), nil)
	if got := s.Lost(after(499*time.Millisecond), nil); got != nil {
		t.Errorf("lost %v before srtt/4", got)
	}
	if got := s.Lost(after(500*time.Millisecond), nil); !slices.Equal(got, []uint64{0}) {
		t.Errorf("lost %v, want 0", got)
	}
}

func TestLostOverAndOldest(t *testing.T) {
	s := NewSendState(1<<30, 0, epoch0)
	sendMany(s, 0, 3, hopA, 0)
	sendMany(s, 3, 6, hopB, 0)
	mustAck(t, s, ackOf(0, 1), 0)
	if got := s.LostOver(hopA, nil); !slices.Equal(got, []uint64{0, 2}) {
		t.Errorf("over A: %v", got)
	}
	if got := s.Oldest(3, nil); !slices.Equal(got, []uint64{0, 2, 3}) {
		t.Errorf("oldest: %v", got)
	}
	if got := s.Oldest(99, []uint64{77}); !slices.Equal(got, []uint64{77, 0, 2, 3, 4, 5}) {
		t.Errorf("oldest 99: %v", got)
	}
}

// Messages are given up 2 s after their oldest packet was read.
func TestExpire(t *testing.T) {
	s := NewSendState(1<<30, 0, epoch0)
	s.Sent(Sent{Number: 0, Kind: wire.KindData, Size: 1, Hop: hopA, At: epoch0, Born: after(-time.Second)})
	s.Sent(Sent{Number: 1, Kind: wire.KindData, Size: 1, Hop: hopA, At: epoch0})
	for _, step := range []struct {
		at   time.Duration
		want int
	}{{time.Second, 0}, {time.Second + 1, 1}, {2 * time.Second, 0}, {2*time.Second + 1, 1}} {
		if got := s.Expire(after(step.at)); got != step.want {
			t.Errorf("at %v: %d given up, want %d", step.at, got, step.want)
		}
	}
	if s.Outstanding() != 0 || s.Floor() != 2 {
		t.Errorf("%d outstanding, floor %d", s.Outstanding(), s.Floor())
	}
}

// The probe time-out starts with the first message outstanding, starts again when something is
// newly acknowledged, and doubles to 2 s while nothing is.
func TestPTO(t *testing.T) {
	const ms = time.Millisecond
	s := NewSendState(1<<30, 0, epoch0)
	if !s.PTODeadline().IsZero() {
		t.Error("probe time-out with nothing outstanding")
	}
	sendMany(s, 0, 2, hopA, 1000*ms)
	due := func(want time.Duration) {
		t.Helper()
		if got := s.PTODeadline().Sub(epoch0); got != want {
			t.Errorf("due at %v, want %v", got, want)
		}
	}
	due(1300 * ms)
	sendMany(s, 2, 3, hopA, 1100*ms)
	due(1300 * ms)
	s.TimedOut(after(1300 * ms))
	due(1900 * ms)
	s.TimedOut(after(1900 * ms))
	due(3100 * ms)
	s.TimedOut(after(3100 * ms))
	due(5100 * ms)
	s.TimedOut(after(5100 * ms))
	due(7100 * ms)
	mustAck(t, s, ackOf(0), 6000*ms) // nothing new
	due(7100 * ms)
	s.Resent(0, hopA, after(6000*ms))
	mustAck(t, s, ackOf(1), 6100*ms)
	due(6400 * ms)
	mustAck(t, s, ackOf(3), 6200*ms)
	if !s.PTODeadline().IsZero() {
		t.Error("probe time-out with everything acknowledged")
	}
}

func TestRTT(t *testing.T) {
	const ms = time.Millisecond
	s := NewSendState(1<<30, 40*ms, epoch0)
	if s.SRTT() != 40*ms || s.MinRTT(epoch0) != 40*ms {
		t.Errorf("srtt %v from the handshake", s.SRTT())
	}
	sendMany(s, 0, 2, hopA, 0)
	a := ackOf(2)
	a.Delay = 8000
	mustAck(t, s, a, 56*ms) // 56 ms less 8: 48
	if s.SRTT() != 41*ms {
		t.Errorf("srtt %v, want 41 ms", s.SRTT())
	}
	if want := 41*ms + 4*(17*ms) + 25*ms; s.PTO() != minPTO || s.rtt.variation != 17*ms {
		t.Errorf("PTO %v of %v, variation %v", s.PTO(), want, s.rtt.variation)
	}
	sendMany(s, 2, 3, hopA, 100*ms)
	a = ackOf(3)
	a.Delay = 10000
	mustAck(t, s, a, 120*ms) // 20 ms: less than the least and the delay, so not reduced
	if s.MinRTT(after(120*ms)) != 20*ms {
		t.Errorf("min RTT %v, want 20 ms", s.MinRTT(after(120*ms)))
	}
	before := s.SRTT()
	sendMany(s, 3, 4, hopA, 200*ms)
	s.Resent(3, hopA, after(250*ms))
	mustAck(t, s, ackOf(4), 251*ms)
	if s.SRTT() != before {
		t.Error("a resent message is measured")
	}
	for sec := 1; sec <= 12; sec++ {
		want := 20 * ms
		if sec > 9 {
			want = 0 // 10 s ago at least
		}
		if got := s.MinRTT(after(time.Duration(sec)*time.Second + 999*ms)); got != want {
			t.Errorf("min RTT %v after %d.999 s, want %v", got, sec, want)
		}
	}
}

// After a long silence nothing is left of the least round-trip time, and the next sample counts.
func TestMinRTTAfterSilence(t *testing.T) {
	var r rtt
	r.sample(5*time.Millisecond, 0, time.Second)
	if got := r.min(time.Hour); got != 0 {
		t.Errorf("min RTT %v an hour later", got)
	}
	r.sample(50*time.Millisecond, 0, time.Hour+time.Second)
	if got := r.min(time.Hour + 2*time.Second); got != 50*time.Millisecond {
		t.Errorf("min RTT %v, want 50 ms", got)
	}
}

// What is not outstanding cannot be sent again.
func TestResentOfNothing(t *testing.T) {
	s := NewSendState(1<<30, 0, epoch0)
	sendMany(s, 0, 2, hopA, 0)
	mustAck(t, s, ackOf(0, 1), 0)
	for _, n := range []uint64{1, 2, 1 << 50} {
		s.Resent(n, hopB, epoch0)
	}
	if got := s.LostOver(hopB, nil); got != nil {
		t.Errorf("outstanding over B: %v", got)
	}
}
