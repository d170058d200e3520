package program

import (
	"flag"
	"fmt"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

// Member is the flags of a program that joins a realm. Its zero value is ready for Register.
type Member struct {
	identity string
	master   string
}

// Register adds -identity and -master to a program's flags.
func (m *Member) Register(flags *flag.FlagSet) {
	flags.StringVar(&m.identity, "identity", "", "identity `FILE`, as issued by examples/authority (required)")
	flags.StringVar(&m.master, "master", "nats://127.0.0.1:4222", "`URL` of the Master")
}

// New returns a node with the identity and the Master that the flags name, and c for the rest.
// It reads the identity file and does no other I/O.
func (m *Member) New(c anchor.Config) (*anchor.Node, error) {
	if m.identity == "" {
		return nil, Mistake("-identity is missing")
	}
	id, err := identity.Load(m.identity, identity.LoadOptions{})
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	c.Identity, c.Control = id, control.NATS(m.master)
	return anchor.New(c)
}
