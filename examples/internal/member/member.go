// Package member is what the example programs that join a realm have in common: the flags
// -identity and -master, and how a program ends.
package member

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

// Flags are the common flags. Register adds them to a flag set.
type Flags struct {
	Identity string
	Master   string
	Verbose  bool
}

// Register adds -identity, -master and -v to f.
func (fl *Flags) Register(f *flag.FlagSet) {
	f.StringVar(&fl.Identity, "identity", "", "identity `file` of this anchor, from the authority (required)")
	f.StringVar(&fl.Master, "master", "nats://127.0.0.1:4222", "`URL` of the Master, a NATS server with JetStream")
	f.BoolVar(&fl.Verbose, "v", false, "log what the node does")
}

// Node loads the identity and makes a node. It does no network I/O.
func (fl *Flags) Node() (*anchor.Node, error) {
	if fl.Identity == "" {
		return nil, errors.New("-identity is required; see -h")
	}
	id, err := identity.Load(fl.Identity, identity.LoadOptions{})
	if err != nil {
		return nil, err
	}
	c := anchor.Config{Identity: id, Control: control.NATS(fl.Master)}
	if fl.Verbose {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return anchor.New(c)
}

// Main runs a program: run gets the arguments and a context that ends on SIGINT or SIGTERM. An
// error is printed in one line and gives exit status 1; flag.ErrHelp gives 0.
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Parse parses flags of a program that takes exactly the named arguments, and explains itself
// with usage.
func Parse(f *flag.FlagSet, args []string, usage string, want int) error {
	f.Usage = func() {
		fmt.Fprint(f.Output(), usage, "\nFlags:\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != want {
		return fmt.Errorf("want %d arguments, not %d; see -h", want, f.NArg())
	}
	return nil
}

// Leave closes a node politely, within a bound.
func Leave(n *anchor.Node) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = n.Shutdown(ctx) // the program ends; what is not delivered by then is not
}
