package anchor

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Start brings the node up: it connects to the Master, announces the node and starts the
// pipeline. It returns nil once the node can dial and be dialled; calling it again then does
// nothing. When ctx ends first it undoes everything and returns an error that wraps the
// context's cause and says what it was waiting for; the node may be started again. After Close
// it returns an error that wraps net.ErrClosed and, if a fault closed the node, that fault.
//
// ctx bounds the start only; cancelling it later does nothing.
func (n *Node) Start(ctx context.Context) error {
	p, err := n.running(ctx)
	if err == nil && p == nil {
		err = net.ErrClosed // not reachable: running returns one of the two
	}
	if err != nil {
		return fmt.Errorf("anchor: start: %w", err)
	}
	return nil
}

// running returns the pipeline, and starts the node if it has not been.
func (n *Node) running(ctx context.Context) (*pipeline, error) {
	n.mu.Lock()
	switch n.state {
	case stateRunning:
		p := n.pipeline
		n.mu.Unlock()
		return p, nil
	case stateClosed:
		err := n.err
		n.mu.Unlock()
		return nil, closedError(err)
	}
	a := n.attempt
	if n.state == stateNew {
		// The attempt lives as long as its first caller's context, and no longer than the node.
		startCtx, cancel := context.WithCancelCause(ctx)
		a = &attempt{cancel: cancel, over: make(chan struct{})}
		n.attempt, n.state = a, stateStarting
		n.mu.Unlock()
		n.runStart(startCtx, a)
		cancel(nil)
	} else {
		n.mu.Unlock()
	}
	select {
	case <-a.over:
	case <-ctx.Done():
		select {
		case <-a.over: // it says more than the context does
		default:
			return nil, context.Cause(ctx)
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	return n.running(ctx)
}

// runStart builds the pipeline in the caller's goroutine and settles the attempt.
func (n *Node) runStart(ctx context.Context, a *attempt) {
	p, err := startPipeline(ctx, n)
	n.mu.Lock()
	closed := n.state == stateClosed
	switch {
	case closed && err == nil:
		err = net.ErrClosed
	case err == nil:
		n.state, n.pipeline = stateRunning, p
	case !closed:
		n.state = stateNew
	}
	n.attempt = nil
	a.err = err
	n.mu.Unlock()
	if closed && p != nil {
		p.close()
	}
	close(a.over)
}

// started is running for methods without a context.
func (n *Node) started() (*pipeline, error) {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.StartTimeout)
	defer cancel()
	return n.running(ctx)
}

// Close ends the node now: connections and listeners are closed, blocked calls return errors
// that wrap net.ErrClosed, and every goroutine of the node has ended when it returns, within
// 3 s. Peers see their connections reset if that can be told within 0.3 s. Close does not wait for
// data under way to reach the peer; Shutdown does. It may be called
// in any state, from several goroutines, and more than once: later calls wait for the first and
// return an error that wraps net.ErrClosed.
func (n *Node) Close() error {
	if !n.end(nil) {
		<-n.done
		return fmt.Errorf("anchor: close: %w", net.ErrClosed)
	}
	return nil
}

// fail closes the node because of a fault. It is called from a goroutine of its own.
func (n *Node) fail(err error) {
	n.cfg.Logger.Warn("node closes", "name", n.cert.Name, "err", err)
	n.end(err)
}

// end closes the node once; it reports whether this call did.
func (n *Node) end(cause error) bool {
	n.mu.Lock()
	if n.state == stateClosed {
		n.mu.Unlock()
		return false
	}
	n.state, n.err = stateClosed, cause
	a, p := n.attempt, n.pipeline
	n.pipeline = nil
	n.mu.Unlock()
	close(n.closing)
	if a != nil {
		a.cancel(net.ErrClosed)
		<-a.over
	}
	n.http.close()
	if p != nil {
		p.close()
	}
	close(n.done)
	return true
}

// Shutdown closes the node politely: listeners close at once, then it waits until open TCP
// connections have delivered what was written to them and have ended, or until ctx ends, and
// closes the node. It returns the context's cause if that came first, and an error that wraps
// net.ErrClosed if the node was closed already.
func (n *Node) Shutdown(ctx context.Context) error {
	n.mu.Lock()
	p := n.pipeline
	n.mu.Unlock()
	var err error
	if p != nil {
		n.http.close()
		err = p.drain(ctx)
	}
	if closeErr := n.Close(); closeErr != nil && err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("anchor: shutdown: %w", err)
	}
	return nil
}

// Done is closed when the node has closed and every goroutine of it has ended.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns nil until Done is closed, then why the node closed: an error that wraps
// net.ErrClosed, and the fault if there was one, such as control.ErrIdentityInUse or
// identity.ErrRevoked.
func (n *Node) Err() error {
	select {
	case <-n.done:
		n.mu.Lock()
		defer n.mu.Unlock()
		return closedError(n.err)
	default:
		return nil
	}
}

// closedError is net.ErrClosed together with the fault that closed the node.
func closedError(fault error) error {
	if fault == nil || errors.Is(fault, net.ErrClosed) {
		return net.ErrClosed
	}
	return fmt.Errorf("%w: %w", net.ErrClosed, fault)
}
