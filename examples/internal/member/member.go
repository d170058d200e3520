// Package member is what the example programs have in common: how they start and end, how they
// explain themselves, and the flags -identity and -master of those that join a realm.
package member

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
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

// Node loads the identity and makes a node with it, with the Master of the flags, and with c
// for the rest. It does no network I/O.
func (fl *Flags) Node(c anchor.Config) (*anchor.Node, error) {
	if fl.Identity == "" {
		return nil, errors.New("-identity is required; see -h")
	}
	id, err := identity.Load(fl.Identity, identity.LoadOptions{})
	if err != nil {
		return nil, err
	}
	c.Identity, c.Control = id, control.NATS(fl.Master)
	if fl.Verbose {
		c.Logger = fl.log()
	}
	return anchor.New(c)
}

func (fl *Flags) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Main runs a program and ends the process: run gets the arguments and a context that ends on
// SIGINT or SIGTERM; a second signal ends the process at once. An error is printed in one line
// and gives exit status 1; flag.ErrHelp gives 0.
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

// Parse parses the flags of a program that takes at least least and at most most arguments
// beside them. For -h it prints usage and what the flags mean to standard error, and returns
// flag.ErrHelp.
func Parse(f *flag.FlagSet, args []string, usage string, least, most int) error {
	f.Init(f.Name(), flag.ContinueOnError)
	f.SetOutput(io.Discard) // an error is for Main to print
	f.Usage = func() {}
	err := f.Parse(args)
	switch n := f.NArg(); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(os.Stderr, usage, "\nFlags:\n")
		f.SetOutput(os.Stderr)
		f.PrintDefaults()
		return err
	case err != nil:
		return fmt.Errorf("%w; see -h", err)
	case n < least:
		return errors.New("an argument is missing; see -h")
	case n > most:
		return fmt.Errorf("what is %q? see -h", f.Arg(most))
	}
	return nil
}

// Leave closes a node politely, within a bound. With -v it logs what each stage has counted.
func (fl *Flags) Leave(n *anchor.Node) {
	if fl.Verbose {
		s := n.Status()
		for _, st := range s.Stages {
			fl.log().Debug("stage", "name", st.Name, "in", st.In, "out", st.Out, "notes", st.Notes)
		}
		fl.log().Debug("status", "drops", s.Drops(), "peers", len(s.Peers))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = n.Shutdown(ctx) // the program ends; what is not delivered by then is not
}
