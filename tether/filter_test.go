package tether

import (
	"net/netip"
	"testing"
)

func TestOverlayFilter(t *testing.T) {
	realm := netip.MustParsePrefix("fd12:3456:789a::/64")
	own := []netip.Addr{netip.MustParseAddr("100.64.0.7")}
	for _, tt := range []struct {
		addr     string
		loopback bool
		want     bool
	}{
		{"192.0.2.1", false, true},
		{"2001:db8::1", false, true},
		{"fd12:3456:789a::1", false, false},
		{"fd12:3456:789a:0:ffff::", true, false},
		{"fd12:3456:789a:1::1", false, true},
		{"100.64.0.7", false, false},
		{"::ffff:100.64.0.7", false, false},
		{"100.64.0.8", false, true},
		{"127.0.0.1", false, false},
		{"127.0.0.1", true, true},
		{"::1", false, false},
		{"::1", true, true},
		{"fe80::1%eth0", false, true},
	} {
		f := overlayFilter(realm, own, tt.loopback, nil)
		if got := f("eth0", netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s, loopback %v: %v", tt.addr, tt.loopback, got)
		}
	}
	var asked string
	f := overlayFilter(realm, own, false, func(iface string, a netip.Addr) bool { asked = iface + a.String(); return false })
	if f("tun0", netip.MustParseAddr("192.0.2.1")) || asked != "tun0192.0.2.1" {
		t.Errorf("the caller's filter was asked %q", asked)
	}
	asked = ""
	if f("tun0", own[0]); asked != "" {
		t.Errorf("the caller's filter was asked about %q", asked)
	}
}
