package control_test

import (
	"testing"

	"github.com/veil-net/anchor/internal/controltest"
)

func TestFabrics(t *testing.T) {
	for _, k := range controltest.Kinds() {
		t.Run(k.Name, func(t *testing.T) { controltest.Fabric(t, k.Start) })
	}
}

func TestChannels(t *testing.T) {
	for _, k := range controltest.Kinds() {
		t.Run(k.Name, func(t *testing.T) { controltest.Channel(t, k.Start) })
	}
}
