package identity

import (
	"net/netip"
	"testing"
)

func TestAddr(t *testing.T) {
	realm := RealmID{0x01, 0x23, 0x45, 0x67, 0x89, 0xff, 0xff}
	id := ID{0xaa, 0xbb, 0xcc, 0xdd, 0x11, 0x22, 0x33, 0x44, 0xff}
	if got, want := realm.Addr(id), netip.MustParseAddr("fd01:2345:6789:0:aabb:ccdd:1122:3344"); got != want {
		t.Errorf("address is %v, want %v", got, want)
	}
	if got, want := realm.Prefix(), netip.MustParsePrefix("fd01:2345:6789::/64"); got != want {
		t.Errorf("prefix is %v, want %v", got, want)
	}
	if !realm.Prefix().Contains(realm.Addr(id)) {
		t.Error("address is not in the prefix")
	}
}

func TestCheckIPv4(t *testing.T) {
	for _, s := range []string{"10.0.0.1", "100.64.0.1", "192.168.1.1", "8.8.8.8", "1.0.0.0"} {
		if err := checkIPv4(netip.MustParseAddr(s)); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "fd00::1", "::ffff:10.0.0.1"} {
		wantErr(t, checkIPv4(netip.MustParseAddr(s)), ErrFormat, s)
	}
	wantErr(t, checkIPv4(netip.Addr{}), ErrFormat, "invalid")
}
