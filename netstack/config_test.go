//go:build !js

package netstack

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	ok := Config{Addrs: []netip.Addr{v6(1)}}
	for name, change := range map[string]func(*Config){
		"no address":      func(c *Config) { c.Addrs = nil },
		"invalid address": func(c *Config) { c.Addrs = []netip.Addr{{}} },
		"unspecified":     func(c *Config) { c.Addrs = []netip.Addr{netip.IPv6Unspecified()} },
		"multicast":       func(c *Config) { c.Addrs = []netip.Addr{netip.MustParseAddr("ff02::1")} },
		"loopback":        func(c *Config) { c.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1")} },
		"mapped":          func(c *Config) { c.Addrs = []netip.Addr{netip.MustParseAddr("::ffff:1.2.3.4")} },
		"zone":            func(c *Config) { c.Addrs = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} },
		"twice":           func(c *Config) { c.Addrs = []netip.Addr{v6(1), v6(1)} },
		"invalid route":   func(c *Config) { c.Routes = []netip.Prefix{{}} },
		"MTU too small":   func(c *Config) { c.MTU = MinMTU - 1 },
		"MTU too large":   func(c *Config) { c.MTU = MaxMTU + 1 },
		"MTU negative":    func(c *Config) { c.MTU = -1 },
		"send buffer":     func(c *Config) { c.SendBuffer = 1 },
		"receive buffer":  func(c *Config) { c.ReceiveBuffer = -1 },
		"queue negative":  func(c *Config) { c.QueueBytes = -1 },
		"keepalive":       func(c *Config) { c.KeepAlive = -1 },
	} {
		c := ok
		change(&c)
		s, err := New(c)
		if err == nil || s != nil || !strings.HasPrefix(err.Error(), "netstack: configuration: ") {
			t.Errorf("%s: %v", name, err)
		}
		if s != nil {
			s.Close()
		}
	}
	for _, c := range []Config{ok, {Addrs: ok.Addrs, MTU: MinMTU, SendBuffer: minBuffer, ReceiveBuffer: minBuffer, QueueBytes: 1, KeepAlive: 1}, {Addrs: []netip.Addr{v4(1)}, MTU: MaxMTU}} {
		s, err := New(c)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		s.Close()
	}
}

// TestKeepAliveBounds: probes and retransmissions end within the bound, and the latter after
// most of it.
func TestKeepAliveBounds(t *testing.T) {
	for _, bound := range []time.Duration{2 * time.Second, 10 * time.Second, time.Minute, 3 * time.Minute, time.Hour} {
		c := Config{KeepAlive: bound}
		idle, interval, count := c.keepAlive()
		if total := idle + time.Duration(count)*interval; total > bound || total < bound*9/10 {
			t.Errorf("%v: probes end after %v", bound, total)
		}
		limit, retries := c.retransmission()
		if limit < 200*time.Millisecond || limit > 5*time.Second {
			t.Errorf("%v: limit %v", bound, limit)
		}
		if worst := time.Duration(retries) * limit; worst > bound || worst < bound*9/10 {
			t.Errorf("%v: %d retries take up to %v", bound, retries, worst)
		}
	}
}
