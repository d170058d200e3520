package netstack

// The tests of this file, and network_test.go that they need, are all that is built for js:
// they also run under node,
//
//	GOOS=js GOARCH=wasm go test -exec="$(go env GOROOT)/lib/wasm/go_js_wasm_exec" ./netstack

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

func TestSmoke(t *testing.T) {
	t.Run("tcp", smokeTCP)
	t.Run("udp", smokeUDP)
	t.Run("ping", smokePing)
}

// smokeTCP sends a few megabytes and back again.
func smokeTCP(t *testing.T) {
	a, b := two(t, Config{})
	c, d := connected(a, b)
	data := bytes.Repeat([]byte("overlay "), 512<<10)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(d, readerOnly{d}); err != nil {
			t.Errorf("echo: %v", err)
		}
		d.Close()
	})
	wg.Go(func() {
		if _, err := c.Write(data); err != nil {
			t.Errorf("Write: %v", err)
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Errorf("CloseWrite: %v", err)
		}
	})
	got, err := io.ReadAll(c)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("read back %d bytes of %d, error %v", len(got), len(data), err)
	}
	wg.Wait()
	c.Close()
	a.n.noDrops()
}

func smokeUDP(t *testing.T) {
	a, b := two(t, Config{})
	pc, err := b.ListenUDP("udp", netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	port := uint16(pc.LocalAddr().(*net.UDPAddr).Port)
	for _, to := range []netip.Addr{v6(2), v4(2)} {
		c, err := a.DialUDP(a.context(), netip.AddrPort{}, netip.AddrPortFrom(to, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 100)
		n, from, err := pc.ReadFrom(p)
		if err != nil || string(p[:n]) != "hello" || from.String() != c.LocalAddr().String() {
			t.Fatalf("ReadFrom: %q from %v, %v", p[:n], from, err)
		}
		if _, err := pc.WriteTo([]byte("back"), from); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(p); err != nil || string(p[:n]) != "back" {
			t.Fatalf("Read: %q, %v", p[:n], err)
		}
	}
}

func smokePing(t *testing.T) {
	a, _ := two(t, Config{})
	for _, to := range []netip.Addr{v6(2), v4(2), v6(1), v4(1)} {
		if rtt, err := a.Ping(a.context(), to, []byte("are you there")); err != nil || rtt <= 0 {
			t.Errorf("Ping %v: %v, %v", to, rtt, err)
		}
	}
}
