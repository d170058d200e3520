package control_test

import (
	"testing"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/internal/controltest"
)

func TestFabrics(t *testing.T) {
	for _, k := range controltest.Kinds() {
		t.Run(k.Name, func(t *testing.T) { controltest.Fabric(t, k.Start) })
	}
}

// TestChannels runs everything on a Memory and on a nats-server of its own, and 50 members on the
// first. On the other kinds the long form does.
func TestChannels(t *testing.T) {
	for _, k := range controltest.Kinds() {
		short, n := !*control.Long, 8
		switch {
		case k.Name == "websocket" && short:
			continue
		case k.Name == "memory" || !short:
			short, n = false, 50
		case k.Name == "process":
			short = false
		}
		t.Run(k.Name, func(t *testing.T) { controltest.Channel(t, k.Start, n, short) })
	}
}
