package egress

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/packet"
	"github.com/veil-net/anchor/internal/tuntest"
	"github.com/veil-net/anchor/stream"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// Packets that end in the reader. None is answered by an ICMP error.
func TestPacketsThatAreNotSent(t *testing.T) {
	from := func(src, dst string) []byte {
		return tuntest.UDPPacket(netip.AddrPortFrom(ip(src), 1), netip.AddrPortFrom(ip(dst), 2), nil)
	}
	tests := []struct {
		name   string
		p      []byte
		reason string // of the drop; "" if the packet is just ignored
	}{
		{"empty", []byte{}, "malformed"},
		{"version 5", []byte{0x55, 0, 0, 0}, "malformed"},
		{"22 bytes of TCP", tuntest.Packet(own4, bob4, tuntest.TCP, []byte{0, 80}), "malformed"},
		{"trailing byte", append(udp(bob4, 0, 0), 0), "malformed"},
		{"another's source", from("10.0.0.9", "10.0.0.2"), "foreign source"},
		{"another's source, IPv6", from("fd00::9", "fd00::2"), "foreign source"},
		{"unspecified source", from("0.0.0.0", "10.0.0.2"), "foreign source"},
		{"to ourselves", from("10.0.0.1", "10.0.0.1"), "own address"},
		{"to ourselves, IPv6", from("fd00::1", "fd00::1"), "own address"},
		{"multicast", from("10.0.0.1", "224.0.0.251"), ""},
		{"multicast, IPv6", from("fd00::1", "ff02::2"), ""},
		{"router solicitation", from("fe80::1", "ff02::2"), ""},
		{"broadcast", from("10.0.0.1", "255.255.255.255"), ""},
		{"link-local", from("10.0.0.1", "169.254.1.1"), ""},
		{"link-local, IPv6", from("fd00::1", "fe80::1"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, inProcess bool) {
				f := newFixture(t, inProcess, nil)
				f.Start()
				f.dev.Feed(udp(bob4, 0, 0), tt.p, udp(bob4, 1, 0))
				checkOrder(t, packetsOf(f.net.wait(t, 2), idOf(bob4)), bob4, 0, 2, 0)
				if tt.reason == "" {
					f.wantDrops(nil)
					if n := f.snapshot().Notes["ignored"]; n != 1 {
						t.Errorf("%d packets are noted as ignored", n)
					}
				} else {
					f.wantDrops(map[string]uint64{tt.reason: 1})
				}
				if n := len(f.dev.Written()); n != 0 {
					t.Errorf("%d packets came back", n)
				}
				f.stop()
			})
		})
	}
}

// told reads the ICMP error about a packet of ours that came back.
func told(t *testing.T, p []byte) (kind icmp.Type, code int) {
	t.Helper()
	var h packet.Header
	if err := h.Parse(p); err != nil {
		t.Fatal(err)
	}
	protocol := 1
	if h.Version == 6 {
		protocol = 58
	}
	m, err := icmp.ParseMessage(protocol, p[h.Upper:])
	if err != nil {
		t.Fatal(err)
	}
	return m.Type, m.Code
}

// Why a packet could not be sent decides the counter and what its sender is told.
func TestFaultsOfSending(t *testing.T) {
	type icmpError struct {
		kind icmp.Type
		code int
	}
	v4 := func(code int) *icmpError { return &icmpError{ipv4.ICMPTypeDestinationUnreachable, code} }
	v6 := func(code int) *icmpError { return &icmpError{ipv6.ICMPTypeDestinationUnreachable, code} }
	wrap := func(err error) error { return fmt.Errorf("stream: send to bob: %w", err) }
	tests := []struct {
		name    string
		resolve error
		send    error
		reason  string
		v4, v6  *icmpError
	}{
		{"nobody has the address", errTest, nil, "no route", v4(0), v6(0)},
		{"the one who has it is revoked", wrap(identity.ErrRevoked), nil, "prohibited", v4(13), v6(1)},
		{"not allowed", nil, wrap(stream.ErrNotAllowed), "prohibited", v4(13), v6(1)},
		{"revoked", nil, wrap(identity.ErrRevoked), "prohibited", v4(13), v6(1)},
		{"expired certificate", nil, wrap(identity.ErrExpired), "prohibited", v4(13), v6(1)},
		{"certificate not yet valid", nil, wrap(identity.ErrNotYetValid), "prohibited", v4(13), v6(1)},
		{"another realm", nil, wrap(identity.ErrForeignRealm), "prohibited", v4(13), v6(1)},
		{"unreachable", nil, wrap(errTest), "unreachable", v4(1), v6(3)},
		{"too late", nil, wrap(context.DeadlineExceeded), "expired", v4(1), v6(3)},
		{"revoked, and too late", nil, fmt.Errorf("%w (%w)", context.DeadlineExceeded, identity.ErrRevoked), "prohibited", v4(13), v6(1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, inProcess bool) {
				f := newFixture(t, inProcess, nil)
				if tt.resolve != nil {
					f.dir.resolve = func(context.Context, netip.Addr) (identity.ID, error) { return identity.ID{}, tt.resolve }
				}
				f.net.send = func(context.Context, identity.ID) error { return tt.send }
				f.Start()
				for i, dst := range []netip.Addr{bob4, bob6} {
					f.dev.Feed(udp(dst, 0, 0))
					back := f.dev.WaitWritten(i + 1)
					synctest.Wait()
					kind, code := told(t, back[i])
					want := []*icmpError{tt.v4, tt.v6}[i]
					if kind != want.kind || code != want.code {
						t.Errorf("%s: told %v code %d, want %v code %d", dst, kind, code, want.kind, want.code)
					}
				}
				f.wantDrops(map[string]uint64{tt.reason: 2})
				if s := f.snapshot(); s.Out != 0 || s.Notes["icmp sent"] != 2 {
					t.Errorf("counted %+v", s)
				}
				f.stop()
			})
		})
	}
}

func TestUnresolvedAddressExpires(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		known := make(chan struct{})
		f.dir.resolve = func(ctx context.Context, a netip.Addr) (identity.ID, error) {
			select {
			case <-known:
				return idOf(a), nil
			case <-ctx.Done():
				return identity.ID{}, context.Cause(ctx)
			}
		}
		f.Start()
		began := time.Now()
		for i := range 3 {
			f.dev.Feed(udp(bob4, i, 0))
			time.Sleep(500 * time.Millisecond)
		}
		f.dev.WaitWritten(1)
		if d := time.Since(began); d != DefaultMaxAge {
			t.Errorf("the first packet expired after %v", d)
		}
		close(known)
		checkOrder(t, packetsOf(f.net.wait(t, 2), idOf(bob4)), bob4, 1, 3, 0)
		f.wantDrops(map[string]uint64{"expired": 1})
		f.stop()
	})
}

// A flood of packets to an address that nobody has is no flood of look-ups.
func TestRefusalIsRememberedForASecond(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		lookups := 0
		f.dir.resolve = func(_ context.Context, a netip.Addr) (identity.ID, error) {
			lookups++
			if lookups > 2 {
				return idOf(a), nil
			}
			return identity.ID{}, errTest
		}
		f.Start()
		for i := range 100 {
			f.dev.Feed(udp(bob4, i, 0))
			time.Sleep(20 * time.Millisecond)
		}
		synctest.Wait()
		if lookups != 2 {
			t.Errorf("%d look-ups in 2 s", lookups)
		}
		f.wantDrops(map[string]uint64{"no route": 100})
		f.dev.Feed(udp(bob4, 100, 0))
		f.net.wait(t, 1)
		f.stop()
	})
}

func TestSlowDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, false, func(c *Config) { c.QueueBytes = 2000 })
		open := make(chan struct{})
		f.net.send = stall(open)
		f.Start()
		f.dev.Feed(udp(bob4, 0, 1000))
		synctest.Wait()
		f.dev.Feed(udp(bob4, 1, 1000), udp(bob4, 2, 1000), udp(bob4, 3, 1000), udp(carol, 0, 0))
		synctest.Wait()
		f.wantDrops(map[string]uint64{"slow destination": 1})
		if n := len(f.dev.Written()); n != 0 {
			t.Errorf("%d ICMP errors about a full queue", n)
		}
		close(open)
		checkOrder(t, packetsOf(f.net.wait(t, 4), idOf(bob4)), bob4, 0, 3, 1000)
		f.stop()
	})
}

// What an in-process stack sends by itself is admitted beyond the limit, but for replies that
// nothing bounds (invariant 2).
func TestInProcessSourceIsAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, func(c *Config) { c.QueueBytes = 1 })
		open := make(chan struct{})
		f.net.send = stall(open)
		f.Start()
		reset := tuntest.TCPPacket(netip.AddrPortFrom(own4, 1), netip.AddrPortFrom(bob4, 2), tuntest.RST, nil)
		pong := tuntest.ICMPPacket(own4, bob4, 0, 0, make([]byte, 4))
		unreachable := tuntest.ICMPPacket(own4, bob4, 3, 3, make([]byte, 28))
		f.dev.Feed(reset) // there is room
		synctest.Wait()
		for i := range 50 {
			f.dev.Feed(udp(bob4, i, 1000), reset, pong, unreachable)
			synctest.Wait()
		}
		f.wantDrops(map[string]uint64{"excess reply": 150 - 3}) // those of the first round had room
		if q := f.queues.Snapshot()[0]; q.HighWater < 49*1000 {
			t.Errorf("high-water mark %d", q.HighWater)
		}
		close(open)
		f.net.wait(t, 54)
		f.stop()
	})
}

func TestTooBig(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.Start()
		f.dev.Feed(udp(bob6, 0, 65000))
		kind, _ := told(t, f.dev.WaitWritten(1)[0])
		if kind != ipv6.ICMPTypePacketTooBig {
			t.Errorf("told %v", kind)
		}
		f.dev.Feed(udp(bob6, 1, 60000))
		f.net.wait(t, 1)
		f.wantDrops(map[string]uint64{"too big": 1})
		f.stop()
	})
}

func TestDestinationLimit(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, func(c *Config) { c.MaxDestinations = 2 })
		f.Start()
		f.dev.Feed(udp(bob4, 0, 0), udp(bob6, 0, 0), udp(carol, 0, 0))
		f.net.wait(t, 2)
		f.dev.WaitWritten(1)
		f.wantDrops(map[string]uint64{"destination limit": 1})
		time.Sleep(DefaultGrace + time.Millisecond)
		synctest.Wait()
		f.dev.Feed(udp(carol, 1, 0))
		f.net.wait(t, 3)
		f.stop()
	})
}

func TestTooManySegmentsIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, false, func(c *Config) { c.QueueBytes = 1 << 20 })
		f.dev.Batch = 8
		f.Start()
		var in [][]byte
		for i := range 20 {
			in = append(in, udp(bob4, i, 0))
		}
		f.dev.Feed(in...) // 8 are read, 12 are lost
		f.dev.Feed(udp(bob4, 20, 0))
		f.net.wait(t, 9)
		f.wantDrops(map[string]uint64{"too many segments": 1})
		f.stop()
	})
}

func TestFailingSourceIsReadAgain(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.Start()
		began := time.Now()
		const faults = 15
		for range faults {
			f.dev.Fail(errTest)
		}
		f.dev.Feed(udp(bob4, 0, 0))
		f.net.wait(t, 1)
		// 1, 2, 4 ... 512 ms, then a second each time.
		if d, want := time.Since(began), 1023*time.Millisecond+5*time.Second; d != want {
			t.Errorf("%d faults took %v, want %v", faults, d, want)
		}
		f.dev.Fail(errTest)
		f.dev.Feed(udp(bob4, 1, 0))
		f.net.wait(t, 2)
		if n := f.snapshot().Notes["read retries"]; n != faults+1 {
			t.Errorf("%d retries are noted", n)
		}
		f.wantDrops(nil)
		f.stop()
	})
}

// A source that returns nothing at all must not make the reader spin.
func TestSourceThatReturnsNothing(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.Start()
		began := time.Now()
		for range 3 {
			f.dev.Feed()
		}
		f.dev.Feed(udp(bob4, 0, 0))
		f.net.wait(t, 1)
		if d := time.Since(began); d != 7*time.Millisecond {
			t.Errorf("3 empty reads took %v, want 1 + 2 + 4 ms", d)
		}
		if n := f.snapshot().Notes["read retries"]; n != 3 {
			t.Errorf("%d retries are noted", n)
		}
		f.stop()
	})
}

// ICMP errors are limited, as the standards want.
func TestAnswersAreLimited(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.dir.resolve = func(context.Context, netip.Addr) (identity.ID, error) { return identity.ID{}, errTest }
		f.Start()
		for i := range 200 {
			f.dev.Feed(udp(bob4, i, 0))
		}
		synctest.Wait()
		s := f.snapshot()
		if s.Notes["icmp sent"] != answerBurst || s.Notes["icmp limited"] != 200-answerBurst {
			t.Errorf("counted %+v", s)
		}
		time.Sleep(20 * time.Millisecond)
		for i := range 200 {
			f.dev.Feed(udp(bob4, i, 0))
		}
		synctest.Wait()
		if n := f.snapshot().Notes["icmp sent"]; n != answerBurst+20 {
			t.Errorf("%d errors after 20 ms more", n)
		}
		f.wantDrops(map[string]uint64{"no route": 400})
		f.stop()
	})
}

// An error that cannot be written stops nothing.
func TestSourceThatTakesNoAnswer(t *testing.T) {
	both(t, func(t *testing.T, inProcess bool) {
		f := newFixture(t, inProcess, nil)
		f.dir.resolve = func(context.Context, netip.Addr) (identity.ID, error) { return identity.ID{}, errTest }
		f.dev.OnWrite = func([][]byte) error { return tun.ErrTooManySegments }
		f.Start()
		f.dev.Feed(udp(bob4, 0, 0), udp(bob4, 1, 0))
		synctest.Wait()
		f.wantDrops(map[string]uint64{"no route": 2})
		if n := f.snapshot().Notes["icmp sent"]; n != 0 {
			t.Errorf("%d errors count as sent", n)
		}
		f.stop()
	})
}
