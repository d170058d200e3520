package peers

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/netstack"
)

const (
	wireguardMTU  = 1420
	wireguardPort = 7
)

// WireGuard returns a pair of wireguard-go devices, each with the in-process network stack of
// wireguard-go, that reach each other over UDP on 127.0.0.1 with an MTU of 1420. The keys are
// fresh; the first Dial waits for WireGuard's handshake.
func WireGuard(handle Handler) (Pair, error) {
	client, err := newWireGuardNode(netip.MustParseAddr("10.77.0.1"))
	if err != nil {
		return nil, fmt.Errorf("peers: wireguard: %w", err)
	}
	server, err := newWireGuardNode(netip.MustParseAddr("10.77.0.2"))
	if err != nil {
		client.device.Close()
		return nil, fmt.Errorf("peers: wireguard: %w", err)
	}
	w := &wireguard{client: client, server: server}
	if err := errors.Join(client.addPeer(server), server.addPeer(client)); err != nil {
		return nil, errors.Join(fmt.Errorf("peers: wireguard: %w", err), w.Close())
	}
	listener, err := server.net.ListenTCPAddrPort(netip.AddrPortFrom(server.addr, wireguardPort))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("peers: wireguard: listen: %w", err), w.Close())
	}
	w.listener = listener
	w.accepting.Go(func() { w.accept(handle) })
	return w, nil
}

type wireguard struct {
	client, server *wireguardNode
	listener       net.Listener // nil until the server listens
	accepting      sync.WaitGroup
	group          group
}

func (w *wireguard) Name() string { return "wireguard" }

// accept serves connections until the listener is closed.
func (w *wireguard) accept(handle Handler) {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.group.add(c, handle)
	}
}

func (w *wireguard) Dial(ctx context.Context) (net.Conn, error) {
	c, err := w.client.net.DialContextTCPAddrPort(ctx, netip.AddrPortFrom(w.server.addr, wireguardPort))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("peers: dial wireguard: %w", err)
	}
	t := &tracked{Conn: c, group: &w.group}
	if !w.group.add(t, nil) {
		return nil, errClosed
	}
	return t, nil
}

// Close closes the connections, waits until the stacks have said all they had to say about
// that, and closes the devices last: wireguard-go's stack panics if it sends a packet while it
// is being closed.
func (w *wireguard) Close() error {
	first := w.group.close()
	if w.listener != nil {
		w.listener.Close()
	}
	w.accepting.Wait()
	if !first {
		return nil
	}
	w.awaitSilence()
	err := errors.Join(w.client.device.Down(), w.server.device.Down())
	w.client.device.Close()
	w.server.device.Close()
	return err
}

// awaitSilence waits until no packet passed for five ticks, at most two seconds.
func (w *wireguard) awaitSilence() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for last, silent, ticks := uint64(0), 0, 0; silent < 5 && ticks < 200; ticks++ {
		<-tick.C
		if now := w.client.tun.packets.Load() + w.server.tun.packets.Load(); now != last {
			last, silent = now, 0
		} else {
			silent++
		}
	}
}

// tracked is a client's connection that its pair forgets when it is closed.
type tracked struct {
	net.Conn
	group *group
}

func (t *tracked) Close() error {
	defer t.group.remove(t)
	return t.Conn.Close()
}

// wireguardNode is one device and its stack.
type wireguardNode struct {
	addr   netip.Addr
	public []byte
	tun    *countingTUN
	device *device.Device
	net    *netstack.Net
}

// countingTUN counts what passes between a device and its stack.
type countingTUN struct {
	tun.Device
	packets atomic.Uint64 // both ways
}

func (t *countingTUN) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := t.Device.Read(bufs, sizes, offset)
	t.packets.Add(uint64(n))
	return n, err
}

func (t *countingTUN) Write(bufs [][]byte, offset int) (int, error) {
	t.packets.Add(uint64(len(bufs)))
	return t.Device.Write(bufs, offset)
}

// newWireGuardNode brings a device up on a free UDP port, without a peer.
func newWireGuardNode(addr netip.Addr) (*wireguardNode, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	inner, stack, err := netstack.CreateNetTUN([]netip.Addr{addr}, nil, wireguardMTU)
	if err != nil {
		return nil, err
	}
	counting := &countingTUN{Device: inner}
	dev := device.NewDevice(counting, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	n := &wireguardNode{addr: addr, public: key.PublicKey().Bytes(), tun: counting, device: dev, net: stack}
	if err := dev.IpcSet("private_key=" + hex.EncodeToString(key.Bytes())); err != nil {
		dev.Close()
		return nil, err
	}
	if err := dev.Up(); err != nil {
		dev.Close()
		return nil, err
	}
	return n, nil
}

// addPeer makes n talk to p.
func (n *wireguardNode) addPeer(p *wireguardNode) error {
	port, err := p.port()
	if err != nil {
		return err
	}
	return n.device.IpcSet(fmt.Sprintf("public_key=%x\nendpoint=127.0.0.1:%s\nallowed_ip=%s/32\n", p.public, port, p.addr))
}

// port is the UDP port that the device listens on.
func (n *wireguardNode) port() (string, error) {
	state, err := n.device.IpcGet()
	if err != nil {
		return "", err
	}
	for lines := bufio.NewScanner(strings.NewReader(state)); lines.Scan(); {
		if port, ok := strings.CutPrefix(lines.Text(), "listen_port="); ok && port != "0" {
			return port, nil
		}
	}
	return "", errors.New("the device has no UDP port")
}
