// Package program is what the example programs share: an orderly start and end, flags that
// explain themselves, and the two flags of every program that joins a realm.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// Run is a program without the process around it. ctx ends with SIGINT or SIGTERM.
type Run func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// Main runs a program and ends the process: with status 0 if run returns nil or was asked for
// help, with 2 after a mistake on the command line, else with 1; an error is one line on
// standard error. A second signal ends the process at once.
func Main(run Run) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	status := report(os.Stderr, run(ctx, os.Args[1:], os.Stdout, os.Stderr))
	stop()
	os.Exit(status)
}

// report prints an error as one line and returns the exit status that it means.
func report(stderr io.Writer, err error) int {
	var mistake usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &mistake):
		fmt.Fprintf(stderr, "%s: %s; -h explains\n", name(), oneLine(err))
		return 2
	}
	fmt.Fprintf(stderr, "%s: %s\n", name(), oneLine(err))
	return 1
}

func name() string { return strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") }

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Mistake is an error about the command line, formatted as by fmt.Errorf.
func Mistake(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// Parse parses a program's flags. For -h it prints usage and what the flags mean to stderr, and
// returns flag.ErrHelp; any other error is a Mistake.
func Parse(flags *flag.FlagSet, args []string, usage string, stderr io.Writer) error {
	flags.Init(flags.Name(), flag.ContinueOnError)
	flags.SetOutput(io.Discard) // it would print its errors beside Main's
	flags.Usage = func() {}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stderr, "%s\n\nFlags:\n", strings.TrimSpace(usage))
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return err
	case err != nil:
		return usageError{err}
	}
	return nil
}
