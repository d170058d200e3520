//go:build !js

package tether

import (
	"net"

	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"
)

// socketBuffer is what we ask the kernel for, in bytes each way: the default of about 200 KB
// overflows in one burst of an SCTP window. The kernel grants what net.core.rmem_max allows.
const socketBuffer = 4 << 20

// socketNet gives pion the kernel's network with sockets set up our way. It is also the seam
// where batched system calls and shared sockets go.
type socketNet struct {
	*stdnet.Net
}

func newSocketNet() (*socketNet, error) {
	n, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return &socketNet{n}, nil
}

// Interfaces lists the interfaces as they are now. stdnet lists those of when it was made,
// and a laptop moves.
func (n *socketNet) Interfaces() ([]*transport.Interface, error) {
	fresh, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return fresh.Interfaces()
}

// ListenUDP is called for host and server reflexive candidates.
func (n *socketNet) ListenUDP(network string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := net.ListenUDP(network, laddr)
	if err != nil {
		return nil, err
	}
	tuneSocket(c)
	return c, nil
}

// ListenPacket is called for TURN.
func (n *socketNet) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := net.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	if u, ok := c.(*net.UDPConn); ok {
		tuneSocket(u)
	}
	return c, nil
}

// tuneSocket does what it can: a socket that refuses is slower or fits fewer paths, and
// still works.
func tuneSocket(c *net.UDPConn) {
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(allowFragments)
	}
}

// filterNet takes interface addresses out of a network that usable refuses or that cannot be
// told a peer.
type filterNet struct {
	transport.Net
	usable addrFilter
}

// Interfaces lists the interfaces with the usable addresses.
func (n *filterNet) Interfaces() ([]*transport.Interface, error) {
	all, err := n.Net.Interfaces()
	if err != nil {
		return nil, err
	}
	kept := make([]*transport.Interface, 0, len(all))
	for _, ifc := range all {
		addrs, err := ifc.Addrs()
		if err != nil { // an interface without addresses
			continue
		}
		copied, n0 := transport.NewInterface(ifc.Interface), 0
		for _, a := range addrs {
			if addr, ok := addrOf(a); ok && !linkLocal6(addr) && n.usable(ifc.Name, addr) {
				copied.AddAddress(a)
				n0++
			}
		}
		if n0 > 0 {
			kept = append(kept, copied)
		}
	}
	return kept, nil
}
