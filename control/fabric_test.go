package control_test

import (
	"testing"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/internal/controltest"
)

func TestFabrics(t *testing.T) {
	for _, k := range controltest.Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			controltest.Fabric(t, k.Start)
		})
	}
}

// TestChannels runs everything on a Memory and, without the race detector, on a nats-server of its
// own with 50 members on the first; on the other kinds what depends on the fabric. The long form runs
// everything everywhere.
func TestChannels(t *testing.T) {
	for _, k := range controltest.Kinds() {
		short, n := !*control.Long, 8
		switch {
		case k.Name == "websocket" && short:
			continue
		case !short, k.Name == "memory" && !control.Race:
			short, n = false, 50
		case k.Name == "memory", k.Name == "process" && !control.Race:
			short = false
		}
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			controltest.Channel(t, k.Start, n, short)
		})
	}
}
