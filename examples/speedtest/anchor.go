package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/examples/speedtest/peers"
	"github.com/veil-net/anchor/identity"
)

// subject is what the baselines are compared with.
var subject = []contender{{"anchor", openAnchor}}

// port is where the server listens on the overlay.
const port = ":7"

// anchorPair is a realm of its own: an embedded Master and two nodes with new identities.
type anchorPair struct {
	master         *control.Master
	client, server *anchor.Node
	listener       net.Listener
	wg             sync.WaitGroup
	once           sync.Once
	err            error
}

// openAnchor starts the two nodes. They know nothing of each other: the client fetches the
// server's record from the Master with its first Dial.
func openAnchor(ctx context.Context, handle peers.Handler) (_ peers.Pair, err error) {
	p := new(anchorPair)
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.master, err = control.StartMaster(control.MasterOptions{}); err != nil {
		return nil, err
	}
	realm, err := identity.NewAuthority("speedtest")
	if err != nil {
		return nil, err
	}
	if p.server, err = p.start(ctx, realm, "server"); err != nil {
		return nil, err
	}
	if p.client, err = p.start(ctx, realm, "client"); err != nil {
		return nil, err
	}
	if p.listener, err = p.server.Listen("tcp", port); err != nil {
		return nil, err
	}
	p.wg.Go(func() { p.serve(handle) })
	return p, nil
}

func (p *anchorPair) start(ctx context.Context, realm *identity.Authority, name string) (*anchor.Node, error) {
	id, err := realm.Issue(identity.IssueOptions{Name: name})
	if err != nil {
		return nil, err
	}
	n, err := anchor.New(anchor.Config{Identity: id, Control: p.master.Fabric()})
	if err != nil {
		return nil, err
	}
	if err := n.Start(ctx); err != nil {
		n.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
}

// serve hands connections to handle until the listener closes.
func (p *anchorPair) serve(handle peers.Handler) {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() {
			defer c.Close()
			handle(c)
		})
	}
}

// Name implements peers.Pair.
func (p *anchorPair) Name() string { return "anchor" }

// Dial implements peers.Pair.
func (p *anchorPair) Dial(ctx context.Context) (net.Conn, error) {
	return p.client.Dial(ctx, "tcp", "server"+port)
}

// Close implements peers.Pair.
func (p *anchorPair) Close() error {
	p.once.Do(func() {
		for _, n := range []*anchor.Node{p.client, p.server} {
			if n != nil {
				p.err = errors.Join(p.err, n.Close())
			}
		}
		p.wg.Wait()
		if p.master != nil {
			p.err = errors.Join(p.err, p.master.Close())
		}
	})
	return p.err
}
