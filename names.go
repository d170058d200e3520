package anchor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/stream"
)

// ErrUnknownName says that no member of the realm has the name: the directory was read whole,
// and the name did not appear within Config.LookupWait.
var ErrUnknownName = errors.New("anchor: unknown name")

// ErrNotAllowed says that the access rule of this node excludes the peer.
var ErrNotAllowed = stream.ErrNotAllowed

// suffix may follow a name, so that names can stand where others are resolved elsewhere.
const suffix = ".anchor"

// target is a parsed host: exactly one way to find a peer.
type target struct {
	key  control.Key
	text string // as the user wrote it
	self bool
}

// parseTarget reads a host: a name, a name with the suffix, an overlay address or an anchor id.
func (n *Node) parseTarget(host string) (target, error) {
	t := target{text: host}
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		if addr.Zone() != "" {
			return t, fmt.Errorf("address %s has a zone, which the overlay does not know: %w", host, syscall.EADDRNOTAVAIL)
		}
		if !n.onOverlay(addr) {
			return t, n.offOverlay(addr)
		}
		t.key.Addr = addr
		t.self = addr == n.cert.IPv6 || addr == n.cert.IPv4
		return t, nil
	}
	if id, err := identity.ParseID(host); err == nil {
		t.key.ID = id
		t.self = id == n.cert.ID
		return t, nil
	}
	name := strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(host, "."), suffix))
	if err := identity.CheckName(name); err != nil {
		return t, fmt.Errorf("host %q: %w", host, err)
	}
	t.key.Name = name
	t.self = name == n.cert.Name || name == "localhost"
	return t, nil
}

// onOverlay reports whether a peer may have the address: IPv6 addresses follow from the realm;
// IPv4 addresses are the authority's choice, so any unicast address may be one.
func (n *Node) onOverlay(a netip.Addr) bool {
	if a.Is4() {
		return a.IsGlobalUnicast()
	}
	own := n.cert.IPv6.As16()
	b := a.As16()
	return [8]byte(own[:8]) == [8]byte(b[:8])
}

func (n *Node) offOverlay(a netip.Addr) error {
	if a.Is6() && a.IsPrivate() {
		return fmt.Errorf("address %s belongs to another realm than %q: %w", a, n.cfg.Identity.RealmName(), syscall.EHOSTUNREACH)
	}
	return fmt.Errorf("address %s is not on the overlay of realm %q: %w", a, n.cfg.Identity.RealmName(), syscall.EHOSTUNREACH)
}

// find returns the record of a target. A name that the directory does not hold is waited for
// as long as LookupWait; everything else, and everything while the Master is away, as long as
// ctx allows.
func (p *pipeline) find(ctx context.Context, t target) (*identity.Record, error) {
	const poll = 100 * time.Millisecond
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-p.node.closing:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, p.lookupError(ctx, t)
		}
		r, err := p.control.Lookup(ctx, t.key, false)
		switch {
		case err == nil:
			return r, nil
		case ctx.Err() != nil:
			return nil, p.lookupError(ctx, t)
		case errors.Is(err, control.ErrUnknown):
			if t.key.Name != "" && time.Since(began) >= p.lookupWait() {
				return nil, p.unknownName(t)
			}
		case !errors.Is(err, control.ErrNotReady):
			return nil, fmt.Errorf("look up %s: %w", t.text, err)
		default:
			began = time.Now() // the wait for a name counts only while the Master answers
		}
		timer.Reset(poll)
	}
}

// lookupWait is longer while the directory is new by itself: members announce themselves
// again after random delays.
func (p *pipeline) lookupWait() time.Duration {
	wait := p.node.cfg.LookupWait
	if wait == defaultLookupWait && p.freshFor(15*time.Second) {
		return 15 * time.Second
	}
	return wait
}

func (p *pipeline) lookupError(ctx context.Context, t target) error {
	cause := context.Cause(ctx)
	if !p.control.Connected() {
		return fmt.Errorf("look up %s: the Master is away: %w: %w", t.text, control.ErrNotReady, cause)
	}
	return fmt.Errorf("look up %s: not in the directory of realm %q yet: %w", t.text, p.node.cfg.Identity.RealmName(), cause)
}

// unknownName names the realm: an identity of another realm than the peer's cannot see it.
func (p *pipeline) unknownName(t target) error {
	id := p.node.cfg.Identity
	return fmt.Errorf("%w: nobody in realm %q (%s) is called %q; does this identity belong to the same realm?",
		ErrUnknownName, id.RealmName(), id.Realm().Short(), t.text)
}

// splitAddress parses "host:port" with a numeric port.
func splitAddress(address string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", 0, &net.AddrError{Err: "port is not a number from 0 to 65535", Addr: address}
	}
	return host, uint16(n), nil
}

// family picks the overlay address for a network such as "tcp4".
func family(network string, t target, c *identity.Certificate) (netip.Addr, error) {
	want := network[len(network)-1]
	if t.key.Addr.IsValid() {
		a := t.key.Addr
		if (want == '4' && !a.Is4()) || (want == '6' && a.Is4()) {
			return netip.Addr{}, &net.AddrError{Err: "address is not of network " + network, Addr: t.text}
		}
		return a, nil
	}
	if want == '4' {
		if !c.IPv4.IsValid() {
			return netip.Addr{}, &net.AddrError{Err: "peer has no IPv4 address", Addr: t.text}
		}
		return c.IPv4, nil
	}
	return c.IPv6, nil
}
