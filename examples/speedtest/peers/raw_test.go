//go:build !js

package peers

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

func TestRawSettings(t *testing.T) {
	ready := make(chan *rawConn, 1)
	release := make(chan struct{})
	p, err := Raw(func(c net.Conn) {
		ready <- c.(*rawConn)
		<-release
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	defer close(release)
	near := dial(t, p).(*rawConn)
	far := <-ready
	for end, c := range map[string]*rawConn{"client": near, "server": far} {
		d := c.channel
		if d.Ordered() || d.Negotiated() || d.MaxRetransmits() != nil || d.MaxPacketLifeTime() != nil {
			t.Errorf("%s: ordered %v, negotiated %v, retransmits %v, lifetime %v; want a reliable unordered DCEP channel",
				end, d.Ordered(), d.Negotiated(), d.MaxRetransmits(), d.MaxPacketLifeTime())
		}
		if got := d.BufferedAmountLowThreshold(); got != lowWater {
			t.Errorf("%s: wakes at %d bytes, want %d", end, got, lowWater)
		}
	}

	// The far end reads nothing: a writer fills its 4 MiB and then waits above 1 MiB.
	written, last, buf := 0, uint64(0), make([]byte, 256<<10)
	for {
		if err := near.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := near.Write(buf)
		written += n
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		now := near.channel.BufferedAmount()
		if err != nil && now == last {
			break // a whole second without progress
		}
		last = now
	}
	if written < receiveBuffer || written > receiveBuffer+2*highWater {
		t.Errorf("a writer got rid of %d bytes with nobody reading, want about %d", written, receiveBuffer+highWater)
	}
	if over := near.channel.BufferedAmount(); over <= highWater || over > highWater+MessageSize {
		t.Errorf("%d bytes wait to be sent, want just above %d", over, highWater)
	}
}
