package tether

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/veil-net/anchor/internal/wire"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestPulseRoundTrip(t *testing.T) {
	var a, b pulse
	now := epoch
	a.start(now)
	b.start(now)
	const oneWay = 20 * time.Millisecond
	for range 50 {
		h := a.beat(now)
		now = now.Add(oneWay)
		b.take(now, &h)
		now = now.Add(730 * time.Millisecond) // b holds it
		h = b.beat(now)
		now = now.Add(oneWay)
		a.take(now, &h)
	}
	if a.srtt != 2*oneWay {
		t.Errorf("srtt is %v", a.srtt)
	}
	if got := a.minRTT(now); got != 2*oneWay {
		t.Errorf("least RTT is %v", got)
	}
	if a.bound(busyBeat) != 2*minRTO || a.bound(idleBeat) != 3*idleBeat {
		t.Errorf("bounds are %v and %v", a.bound(busyBeat), a.bound(idleBeat))
	}
}

func TestPulseRTO(t *testing.T) {
	var p pulse
	p.start(epoch)
	if p.rto() != minRTO {
		t.Errorf("without a sample the RTO is %v", p.rto())
	}
	p.sample(epoch, 300*time.Millisecond)
	if want := 900 * time.Millisecond; p.srtt+4*p.rttvar != want || p.rto() != minRTO {
		t.Errorf("srtt %v, rttvar %v after one sample", p.srtt, p.rttvar)
	}
	p.sample(epoch, 500*time.Millisecond) // rttvar = 3/4 150 + 1/4 200, srtt = 7/8 300 + 1/8 500
	if p.srtt != 325*time.Millisecond || p.rttvar != 162500*time.Microsecond {
		t.Errorf("srtt %v, rttvar %v after two", p.srtt, p.rttvar)
	}
	for range 100 {
		p.sample(epoch, 20*time.Second)
	}
	if p.rto() != maxRTO {
		t.Errorf("RTO is %v on a wild path", p.rto())
	}
}

func TestPulseMinRTTAges(t *testing.T) {
	var p pulse
	p.start(epoch)
	at := func(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }
	p.sample(at(1), 10*time.Millisecond)
	p.sample(at(4), 30*time.Millisecond)
	for _, tt := range []struct {
		at   float64
		want time.Duration
	}{{4.5, 10 * time.Millisecond}, {9, 10 * time.Millisecond}, {10.5, 0}} {
		if got := p.minRTT(at(tt.at)); got != tt.want {
			t.Errorf("at %v s it is %v, want %v", tt.at, got, tt.want)
		}
	}
	p.sample(at(11), 50*time.Millisecond)
	p.sample(at(17), 70*time.Millisecond)
	if got := p.minRTT(at(17)); got != 50*time.Millisecond {
		t.Errorf("over two halves it is %v", got)
	}
}

func TestPulseOneSamplePerEcho(t *testing.T) {
	var p pulse
	p.start(epoch)
	h := p.beat(epoch)
	echo := &wire.Heartbeat{Number: 1, Echo: h.Number}
	p.take(epoch.Add(10*time.Millisecond), echo)
	echo.Number = 2
	p.take(epoch.Add(5*time.Second), echo) // a repetition that claims no hold time
	if p.srtt != 10*time.Millisecond {
		t.Errorf("srtt is %v", p.srtt)
	}
	p.take(epoch.Add(6*time.Second), &wire.Heartbeat{Number: 3, Echo: 12345}) // never sent
	if p.srtt != 10*time.Millisecond {
		t.Errorf("srtt is %v after an echo of nothing", p.srtt)
	}
	h = p.beat(epoch.Add(7 * time.Second))
	p.take(epoch.Add(7*time.Second+time.Millisecond), &wire.Heartbeat{Number: 4, Echo: h.Number, Hold: 1 << 31}) // a liar
	if p.srtt <= 0 || p.srtt > 10*time.Millisecond {
		t.Errorf("srtt is %v after a hold time longer than the round trip", p.srtt)
	}
}

// TestPulseSilence counts silence in ticks: late ones count for what they should have been.
func TestPulseSilence(t *testing.T) {
	var p pulse
	now := epoch
	p.start(now)
	tick := func(late time.Duration, heard uint64) bool {
		now = p.arm(now.Add(busyBeat), busyBeat).Add(late)
		return p.tick(now, heard, busyBeat)
	}
	if tick(0, 1) {
		t.Fatal("dead while bytes come")
	}
	for i := range 19 {
		if tick(0, 1) {
			t.Fatalf("dead after %v", time.Duration(i+1)*busyBeat)
		}
	}
	if !tick(0, 1) {
		t.Fatal("alive after 2 s of silence")
	}
	if tick(0, 2) || p.quiet != 0 {
		t.Fatal("dead though bytes came")
	}
	// Stopped for a minute: silence counts a tick and lateTick, no more.
	if tick(time.Minute, 2) || p.quiet != busyBeat+lateTick {
		t.Errorf("a minute's stop counts as %v of silence", p.quiet)
	}
	// Starved: every tick comes 40 ms late.
	n := 1
	for ; !tick(40*time.Millisecond, 2); n++ {
	}
	if n < 13 || n > 14 { // (2,000 - 150) / 140
		t.Errorf("dead after %d ticks", n)
	}
	p.hurry()
	if p.quiet != 0 {
		t.Error("hurry does not start anew")
	}
}

// TestPulseArm has the next tick come when the bound is reached.
func TestPulseArm(t *testing.T) {
	var p pulse
	p.start(epoch)
	now := epoch
	for !p.tick(now, 0, idleBeat) {
		now = p.arm(now.Add(700*time.Millisecond), idleBeat)
	}
	if got := now.Sub(epoch); got != 3*idleBeat {
		t.Errorf("idle, death is noticed after %v", got)
	}
}

// TestPulseBitmap compares with a set of numbers.
func TestPulseBitmap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var p pulse
		p.start(epoch)
		start := rng.Uint32() // the numbers may wrap
		came := map[uint32]bool{}
		newest := start
		for range 300 {
			n := newest + uint32(rng.IntN(12)) - 6
			if rng.IntN(20) == 0 {
				n += 70
			}
			if n == 0 || len(came) == 0 && n != start {
				continue
			}
			p.take(epoch, &wire.Heartbeat{Number: n})
			came[n] = true
			if int32(n-newest) > 0 {
				newest = n
			}
		}
		if len(came) == 0 {
			continue
		}
		if p.echo != newest {
			t.Fatalf("newest is %d, want %d", p.echo, newest)
		}
		for i := range uint32(64) {
			if got, want := p.bitmap>>i&1 == 1, came[newest-i] && newest-i != 0; got != want {
				t.Fatalf("bit %d is %v", i, got)
			}
		}
	}
}

func TestPulseNumbersSkipZero(t *testing.T) {
	p := pulse{number: 1<<32 - 2}
	p.start(epoch)
	if a, b := p.beat(epoch).Number, p.beat(epoch).Number; a != 1<<32-1 || b != 1 {
		t.Errorf("numbers %d and %d", a, b)
	}
}
