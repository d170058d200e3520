package egress

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/internal/tuntest"
)

const (
	flagACK = 0x10
	flagPSH = 0x08
)

// segment is a TCP segment to bob.
func segment(flags byte, payload []byte) []byte {
	return tuntest.TCPPacket(netip.AddrPortFrom(own4, 1000), netip.AddrPortFrom(bob4, 80), flags, payload)
}

// A bare acknowledgement waits for company, but not for long; what comes with it goes at once.
func TestBareAcksWait(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.Start()
		at := time.Now()
		f.dev.Feed(segment(flagACK, nil))
		synctest.Wait()
		f.dev.Feed(segment(flagACK, nil))
		synctest.Wait()
		f.dev.Feed(segment(flagACK|flagPSH, []byte("answer")))
		batches := f.net.wait(t, 3)
		if len(batches) != 1 || !time.Now().Equal(at) {
			t.Errorf("%d batches after %v, want 1 at once", len(batches), time.Since(at))
		}
		at = time.Now()
		f.dev.Feed(segment(flagACK, nil), segment(flagACK, nil))
		batches = f.net.wait(t, 5)
		if len(batches) != 2 || time.Since(at) != ackHold {
			t.Errorf("%d batches, the last after %v, want 2 and %v", len(batches), time.Since(at), ackHold)
		}
		f.stop()
	})
}

// Whatever does more than acknowledge is sent at once.
func TestOtherSegmentsDoNotWait(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.Start()
		const syn, fin = 0x02, 0x01
		for i, p := range [][]byte{
			segment(syn, nil), segment(syn|flagACK, nil), segment(fin|flagACK, nil),
			segment(flagACK, []byte("x")), udp(bob4, 0, 10),
		} {
			at := time.Now()
			f.dev.Feed(p)
			if f.net.wait(t, i+1); !time.Now().Equal(at) {
				t.Errorf("packet %d waited for %v", i, time.Since(at))
			}
		}
		f.stop()
	})
}
