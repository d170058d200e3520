// Package peers has the baselines that the speed test measures beside Anchor, each as two
// connected nodes in this process that talk over loopback: a raw pion data channel, and
// wireguard-go with its in-process network stack.
//
// They do less than Anchor does (no realm, no names, no relays, no signatures), so they show
// what the transport underneath costs, not what a complete overlay costs.
package peers

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Pair is two nodes, a client and a server, that are up and know each other. Its methods are
// safe for concurrent use.
type Pair interface {
	// Name is the name that the speed test prints.
	Name() string
	// Dial opens a connection from the client to the server. It returns the cause of ctx when
	// ctx ends first; afterwards ctx has no effect on the connection.
	Dial(ctx context.Context) (net.Conn, error)
	// Close ends both nodes and every connection, and waits for the handlers of the server's
	// connections to return. The second call does nothing.
	Close() error
}

// Handler serves one connection at the server. It runs in a goroutine of its own; the
// connection is closed when it returns.
type Handler func(net.Conn)

// errClosed is what Dial returns after Close.
var errClosed = errors.Join(errors.New("peers: the pair is closed"), net.ErrClosed)

// group runs the server's handlers and closes every connection that is still open at the end.
// The zero value is ready for use.
type group struct {
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
	wg     sync.WaitGroup
}

// add makes close wait for c's end and, if handle is not nil, serves c until it returns. It
// reports false, and closes c, once the group is closed.
func (g *group) add(c net.Conn, handle Handler) bool {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		c.Close()
		return false
	}
	if g.conns == nil {
		g.conns = make(map[net.Conn]struct{})
	}
	g.conns[c] = struct{}{}
	if handle != nil {
		g.wg.Go(func() {
			defer g.remove(c)
			defer c.Close()
			handle(c)
		})
	}
	g.mu.Unlock()
	return true
}

// remove forgets a connection that is closed.
func (g *group) remove(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// close closes the connections and waits for the handlers. It reports whether it was the
// first call.
func (g *group) close() bool {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	var open []net.Conn
	for c := range g.conns {
		open = append(open, c)
	}
	g.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
	g.wg.Wait()
	return first
}
