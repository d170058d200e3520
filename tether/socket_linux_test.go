package tether

import (
	"net"
	"syscall"
	"testing"
)

// TestSocketOptions reads back what the kernel was told.
func TestSocketOptions(t *testing.T) {
	n, err := newSocketNet()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	udp, err := n.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	pc, err := n.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for name, c := range map[string]*net.UDPConn{"ListenUDP": udp.(*net.UDPConn), "ListenPacket": pc.(*net.UDPConn)} {
		if got := option(t, c, syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER); got != syscall.IP_PMTUDISC_DONT {
			t.Errorf("%s: IP_MTU_DISCOVER is %d", name, got)
		}
		for _, o := range []int{syscall.SO_RCVBUF, syscall.SO_SNDBUF} {
			if got, was := option(t, c, syscall.SOL_SOCKET, o), option(t, plain, syscall.SOL_SOCKET, o); got < was {
				t.Errorf("%s: option %d is %d, below the default of %d", name, o, got, was)
			} else {
				t.Logf("%s: option %d is %d, by default %d", name, o, got, was)
			}
		}
	}
	if option(t, plain, syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER) == syscall.IP_PMTUDISC_DONT {
		t.Log("this kernel sends without DF by default")
	}
}

func option(t *testing.T, c *net.UDPConn, level, name int) (v int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { v, err = syscall.GetsockoptInt(int(fd), level, name) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return v
}

func TestSocketNetListsInterfacesAnew(t *testing.T) {
	n, err := newSocketNet()
	if err != nil {
		t.Fatal(err)
	}
	a, err := n.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(a) == 0 || len(b) == 0 || a[0] == b[0] {
		t.Errorf("%d and %d interfaces, and the list may be old", len(a), len(b))
	}
}
