//go:build !js

package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

// The settings of the baseline. They are part of what is compared: pion's defaults have no
// bound on what waits to be sent, and the figures depend on the bound.
const (
	// MessageSize is the size in bytes of the messages that a write is cut into: about 25
	// packets of 1,500 bytes.
	MessageSize = 37_500

	receiveBuffer = 4 << 20   // bytes that SCTP keeps for a slow reader
	highWater     = 1 << 20   // a writer waits while more than this is buffered
	lowWater      = 512 << 10 // and goes on at this
)

// Raw returns a pair whose every connection is a WebRTC data channel of its own peer
// connection over loopback: reliable, unordered by DCEP, zero checksum, mDNS off, pion's
// defaults otherwise. Signalling is a function call.
//
// A connection carries messages: a write of more than MessageSize bytes is cut, and since the
// channel is unordered, the parts may arrive in another order when a packet was lost.
func Raw(handle Handler) (Pair, error) {
	var s webrtc.SettingEngine
	s.DetachDataChannels()
	s.EnableSCTPZeroChecksum(true)
	s.SetSCTPMaxReceiveBufferSize(receiveBuffer)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIncludeLoopbackCandidate(true)
	s.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	return &raw{api: webrtc.NewAPI(webrtc.WithSettingEngine(s)), handle: handle}, nil
}

type raw struct {
	api    *webrtc.API
	handle Handler
	group  group
}

func (r *raw) Name() string { return "raw" }

func (r *raw) Close() error {
	r.group.close()
	return nil
}

// Dial makes two peer connections, connects them, and opens a channel from the first to the
// second.
func (r *raw) Dial(ctx context.Context) (net.Conn, error) {
	client, err := r.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, fmt.Errorf("peers: dial raw: %w", err)
	}
	server, err := r.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("peers: dial raw: %w", err), client.GracefulClose())
	}
	c, err := r.connect(ctx, client, server)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("peers: dial raw: %w", err), client.GracefulClose(), server.GracefulClose())
	}
	return c, nil
}

// connect opens the channel and hands its far end to the handler. With an error the caller
// closes both peer connections.
func (r *raw) connect(ctx context.Context, client, server *webrtc.PeerConnection) (net.Conn, error) {
	ordered := false
	channel, err := client.CreateDataChannel("speedtest", &webrtc.DataChannelInit{Ordered: &ordered})
	if err != nil {
		return nil, err
	}
	near := awaitOpen(client, channel)
	far := make(chan (<-chan opened), 1)
	server.OnDataChannel(func(d *webrtc.DataChannel) { far <- awaitOpen(server, d) })
	if err := signal(client, server); err != nil {
		return nil, err
	}

	var nearEnd, farEnd opened
	select {
	case nearEnd = <-near:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case f := <-far:
		farEnd = <-f // OnDataChannel runs when the channel is open: this comes at once
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := errors.Join(nearEnd.err, farEnd.err); err != nil {
		return nil, err
	}
	nearEnd.conn.onClose = func() { r.group.remove(nearEnd.conn) }
	if !r.group.add(farEnd.conn, r.handle) || !r.group.add(nearEnd.conn, nil) {
		return nil, errClosed
	}
	return nearEnd.conn, nil
}

// opened is what becomes of a channel that was to open.
type opened struct {
	conn *rawConn
	err  error
}

// awaitOpen yields the connection on a channel of pc once it is open.
func awaitOpen(pc *webrtc.PeerConnection, d *webrtc.DataChannel) <-chan opened {
	done := make(chan opened, 1)
	var once sync.Once
	d.OnOpen(func() {
		rw, err := d.DetachWithDeadline()
		once.Do(func() {
			if err != nil {
				done <- opened{err: err}
				return
			}
			done <- opened{conn: newRawConn(pc, d, rw)}
		})
	})
	return done
}

// signal connects two peer connections of this process. Each side learns the other's
// description before the other begins to gather, so every candidate finds its receiver ready.
func signal(client, server *webrtc.PeerConnection) error {
	trickle(client, server)
	trickle(server, client)
	offer, err := client.CreateOffer(nil)
	if err != nil {
		return err
	}
	if err := server.SetRemoteDescription(offer); err != nil {
		return err
	}
	if err := client.SetLocalDescription(offer); err != nil {
		return err
	}
	answer, err := server.CreateAnswer(nil)
	if err != nil {
		return err
	}
	if err := client.SetRemoteDescription(answer); err != nil {
		return err
	}
	return server.SetLocalDescription(answer)
}

// trickle gives the candidates of one side to the other. A candidate that is refused is one
// way less to try; if none is left, the dial ends with its context.
func trickle(from, to *webrtc.PeerConnection) {
	from.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c != nil {
			_ = to.AddICECandidate(c.ToJSON())
		}
	})
}
