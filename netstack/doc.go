// Package netstack is a TCP/IP stack that lives in this process: toward the overlay it is a
// packet device, golang.zx2c4.com/wireguard/tun.Device, toward the application it dials and
// listens with ordinary net.Conn, net.Listener and net.PacketConn. It needs no privilege and
// touches nothing of the host's network. The protocols are gVisor's.
//
//	application --Write--> conn --(waits for room)--> gVisor --WritePackets--> outbound queue --Read--> egress
//	application <--Read--- conn <-------------------- gVisor <--------------------------------Write--- ingress
//
// # What waits, and what never does
//
// gVisor calls the link endpoint under its locks and from goroutines that all connections
// share, so WritePackets never waits: it copies the packet into the outbound queue, beyond
// the queue's limit if need be. Waiting happens in the Write, WriteTo, Dial and Ping of this
// package, before gVisor is given anything: for room in the destination's queue (SetGate) and
// in the outbound queue, as long as deadline, Close and context allow. What gVisor sends of
// its own accord is bounded by what it was given: send buffers bound acknowledgements,
// retransmissions and data that waited for a window. What nothing bounds, the answers to
// unknown packets (resets, ICMP, and beyond a reserve SYN-ACKs), is dropped and counted when
// the queue is over its limit. Packets from the overlay wait for nothing outbound.
//
// A node reaches its own addresses inside the stack, without the device.
//
// # Errors
//
// Errors of connections are *net.OpError. errors.Is finds net.ErrClosed after an own Close,
// also when a deadline passed before it; os.ErrDeadlineExceeded; syscall.ECONNREFUSED,
// ECONNRESET, ETIMEDOUT, ENETUNREACH (no route from here), EHOSTUNREACH (an ICMP unreachable
// came back), EADDRINUSE, EMSGSIZE; and the cause of a context that ended.
package netstack
