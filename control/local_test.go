package control

import (
	"context"
	"testing"
)

// farFabric is a Fabric that says nothing about where it is.
type farFabric struct{}

func (farFabric) Connect(context.Context) (Conn, error) { return nil, errMemoryDown }
func (farFabric) String() string                        { return "far" }

func TestLocal(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	for _, c := range []struct {
		f    Fabric
		want bool
	}{
		{m, true}, {m.Side("x"), true}, {farFabric{}, false},
		{NATS("nats://127.0.0.1:4222"), true}, {NATS("nats://[::1]:4222"), true}, {NATS("ws://localhost:80"), true},
		{NATS("nats://far.example:4222,nats://127.0.0.1:4222"), true},
		{NATS("nats://192.0.2.1:4222"), false}, {NATS("tls://master.example"), false}, {NATS("::"), false},
	} {
		if got := Local(c.f); got != c.want {
			t.Errorf("%v is local: %v", c.f, got)
		}
	}
}
