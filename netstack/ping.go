package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const echoHeader = 8

// Ping sends an ICMP echo request with the payload to dst and returns the time until its
// reply came. It waits for room before, and for the reply as long as ctx lasts; payload is up
// to 65,507 bytes over IPv4 and 65,527 over IPv6 (syscall.EMSGSIZE).
func (s *Stack) Ping(ctx context.Context, dst netip.Addr, payload []byte) (time.Duration, error) {
	dst = s.destination(netip.AddrPortFrom(dst, 0)).Addr()
	rtt, err := s.ping(ctx, dst, payload)
	if err != nil {
		return 0, fmt.Errorf("netstack: ping %v: %w", dst, err)
	}
	return rtt, nil
}

func (s *Stack) ping(ctx context.Context, dst netip.Addr, payload []byte) (time.Duration, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	defer s.end()
	ctx, release := s.bind(ctx)
	defer release()
	switch {
	case !dst.IsValid() || dst.Zone() != "" || dst.IsMulticast():
		return 0, &net.AddrError{Err: "not the address of a node", Addr: dst.String()}
	case len(payload) > maxDatagram6 || dst.Is4() && len(payload) > maxDatagram4:
		return 0, syscall.EMSGSIZE
	}
	if err := s.admit(ctx, dst); err != nil {
		return 0, err
	}
	proto, request, number := icmp.ProtocolNumber6, byte(header.ICMPv6EchoRequest), uint8(protoICMPv6)
	if dst.Is4() {
		proto, request, number = icmp.ProtocolNumber4, byte(header.ICMPv4Echo), protoICMP
	}
	var wq waiter.Queue
	ep, terr := s.net.NewEndpoint(proto, protocolOf(dst), &wq)
	if terr != nil {
		return 0, sysError("socket", terr)
	}
	defer ep.Close()
	var ev wakeup
	ev.register(&wq, waiter.ReadableEvents)
	if terr := ep.Connect(fullOf(netip.AddrPortFrom(dst, 0))); terr != nil {
		return 0, sysError("connect", terr)
	}
	at, terr := ep.GetLocalAddress()
	if terr != nil {
		return 0, sysError("getsockname", terr)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	fl := flow{proto: number, local: addrPortOf(at, netip.Addr{}), remote: netip.AddrPortFrom(dst, 0)}
	defer s.watch(fl, func(err error) { fail(err) })()

	message := make([]byte, echoHeader, echoHeader+len(payload))
	message[0] = request
	binary.BigEndian.PutUint16(message[6:], 1) // sequence number; gVisor sets the identifier
	message = append(message, payload...)
	start := time.Now()
	if _, terr := ep.Write(bytes.NewReader(message), tcpip.WriteOptions{}); terr != nil {
		return 0, sysError("sendto", terr)
	}
	return s.reply(ctx, ep, &ev, message, start)
}

// reply waits for the echo of message.
func (s *Stack) reply(ctx context.Context, ep tcpip.Endpoint, ev *wakeup, message []byte, start time.Time) (time.Duration, error) {
	got := make([]byte, len(message)+1)
	for {
		w := tcpip.SliceWriter(got)
		res, err := ep.Read(&w, tcpip.ReadOptions{})
		switch err.(type) {
		case nil:
			// Type and checksum differ, and gVisor has checked them; the rest comes back.
			if res.Count == len(message) && bytes.Equal(got[6:len(message)], message[6:]) {
				return time.Since(start), nil
			}
			continue
		case *tcpip.ErrWouldBlock:
		default:
			return 0, os.NewSyscallError("recvfrom", errnoOf(err))
		}
		select {
		case <-ev.ready:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
