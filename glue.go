package anchor

import (
	"context"
	"net/netip"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

// directory is the Master's directory as package stream uses it.
type directory struct{ p *pipeline }

// Record implements stream.Directory.
func (d directory) Record(ctx context.Context, id identity.ID, fresh bool) (*identity.Record, error) {
	return d.p.control.Lookup(ctx, control.Key{ID: id}, fresh)
}

// Learn implements stream.Directory.
func (d directory) Learn(r *identity.Record) bool { return d.p.control.Learn(r) }

// resolver finds the anchor of an overlay address for package egress.
type resolver struct{ p *pipeline }

// Known implements egress.Resolver.
func (r resolver) Known(a netip.Addr) (identity.ID, bool) {
	rec, ok := r.p.control.Cached(control.Key{Addr: a})
	if !ok {
		return identity.ID{}, false
	}
	return rec.ID(), true
}

// Resolve implements egress.Resolver. It waits for the Master, and for an anchor that is not
// in the directory yet, as long as ctx allows.
func (r resolver) Resolve(ctx context.Context, a netip.Addr) (identity.ID, error) {
	if !r.p.node.onOverlay(a) {
		return identity.ID{}, r.p.node.offOverlay(a)
	}
	rec, err := r.p.find(ctx, target{key: control.Key{Addr: a}, text: a.String()})
	if err != nil {
		return identity.ID{}, err
	}
	return rec.ID(), nil
}
