// Get fetches a URL over the overlay and writes the body to a file or to standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/examples/internal/member"
)

const usage = `Usage: get -identity FILE [-master URL] [-o FILE] URL

Fetches an http URL over the overlay, such as http://bob/file, and writes the body to
standard output or to a file. The host is a peer's name, overlay address or anchor id. On a
terminal a bar shows progress. The exit status is 1, with one line that says why, if the body
did not come whole.
`

// lookupWait is how long a name may be missing in the directory. It covers what a Master that
// was just started needs to hear of everybody.
const lookupWait = 8 * time.Second

func main() { member.Main("get", run) }

func run(ctx context.Context, args []string) error {
	var common member.Flags
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	common.Register(flags)
	output := flags.String("o", "", "write the body to this `file`")
	wait := flags.Duration("wait", 30*time.Second, "how long to wait for the peer's answer")
	if err := member.Parse(flags, args, usage, 1, 1); err != nil {
		return err
	}
	node, err := common.Node(anchor.Config{LookupWait: lookupWait})
	if err != nil {
		return err
	}
	defer common.Leave(node)

	response, err := get(ctx, node, flags.Arg(0), *wait)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if *output == "" {
		return save(os.Stdout, response)
	}
	f, err := os.Create(*output) // not before there is something to put into it
	if err != nil {
		return err
	}
	return errors.Join(save(f, response), f.Close())
}

// get asks for url. wait bounds the time until the answer begins; the transfer takes as long as
// it takes.
func get(ctx context.Context, node *anchor.Node, url string, wait time.Duration) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	impatient := time.AfterFunc(wait, func() { cancel(fmt.Errorf("no answer within %v", wait)) })
	defer impatient.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// Start first, so that a fault of our own is not reported as one of the request.
	if err := node.Start(ctx); err != nil {
		return nil, err
	}
	response, err := node.HTTPClient().Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return response, nil
}

// save copies the body to w, with a bar if a person watches.
func save(w io.Writer, response *http.Response) error {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		bar := progressbar.DefaultBytes(response.ContentLength, response.Request.URL.String())
		defer bar.Close()
		w = io.MultiWriter(w, bar)
	}
	n, err := io.Copy(w, response.Body)
	if err != nil {
		return fmt.Errorf("ended after %d bytes: %w", n, err)
	}
	return nil
}
