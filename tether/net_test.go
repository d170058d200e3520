//go:build !js

package tether

import (
	"net"
	"net/netip"
	"testing"

	"github.com/pion/transport/v5"
)

// fakeNet lists two interfaces.
type fakeNet struct{ transport.Net }

func (fakeNet) Interfaces() ([]*transport.Interface, error) {
	a := transport.NewInterface(net.Interface{Index: 1, Name: "eth0", Flags: net.FlagUp})
	a.AddAddress(&net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(24, 32)})
	a.AddAddress(&net.IPNet{IP: net.ParseIP("2001:db8::1"), Mask: net.CIDRMask(64, 128)})
	a.AddAddress(&net.IPNet{IP: net.ParseIP("fe80::1"), Mask: net.CIDRMask(64, 128)})
	b := transport.NewInterface(net.Interface{Index: 2, Name: "tun0", Flags: net.FlagUp})
	b.AddAddress(&net.IPNet{IP: net.IPv4(100, 64, 0, 7), Mask: net.CIDRMask(10, 32)})
	c := transport.NewInterface(net.Interface{Index: 3, Name: "bare0", Flags: net.FlagUp})
	return []*transport.Interface{a, b, c}, nil
}

func TestFilterNet(t *testing.T) {
	n := &filterNet{fakeNet{}, func(iface string, a netip.Addr) bool { return iface == "eth0" && a.String() != "2001:db8::1" }}
	ifcs, err := n.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(ifcs) != 1 || ifcs[0].Name != "eth0" {
		t.Fatalf("interfaces %v", ifcs)
	}
	addrs, err := ifcs[0].Addrs()
	if err != nil || len(addrs) != 1 || addrs[0].String() != "192.0.2.1/24" {
		t.Errorf("addresses %v, %v", addrs, err)
	}
}
