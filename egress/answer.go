package egress

import (
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/internal/buffer"
	"github.com/veil-net/anchor/internal/packet"
)

const (
	// answerRate and answerBurst limit ICMP errors (RFC 1812 section 4.3.2.8, RFC 4443 section
	// 2.4 f) to what Linux sends by default: 1,000 a second, 50 at once.
	answerRate  = 1000
	answerBurst = 50
)

// answerer writes ICMP errors to the source. Safe for concurrent use.
type answerer struct {
	source tun.Device
	count  *counters

	mu     sync.Mutex
	tokens float64
	filled time.Time
}

// send tells the sender of packet p why it was not delivered, unless the standards or the
// rate forbid it. An error that the source does not take is lost.
func (a *answerer) send(p []byte, why packet.Reason) {
	var h packet.Header
	if h.Parse(p) != nil || !h.Answerable() {
		return
	}
	if !a.take(time.Now()) {
		a.count.limited.Inc()
		return
	}
	b := buffer.Get(packet.MaxError)
	defer b.Release()
	block, at := b.Block()
	icmp := packet.AppendError(block[at:at], p, &h, why, maxMTU)
	if _, err := a.source.Write([][]byte{block[:at+len(icmp)]}, at); err == nil {
		a.count.answered.Inc()
	}
}

// take spends a token if there is one.
func (a *answerer) take(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.filled.IsZero() {
		a.tokens = answerBurst
	} else {
		a.tokens = min(answerBurst, a.tokens+now.Sub(a.filled).Seconds()*answerRate)
	}
	a.filled = now
	if a.tokens < 1 {
		return false
	}
	a.tokens--
	return true
}
