// Get fetches a URL over the overlay and writes the body to a file or to standard output.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/veil-net/anchor/examples/internal/member"
)

const usage = `Usage: get -identity FILE [-master URL] [-o FILE] URL

Fetches an http URL over the overlay, such as http://bob/file, and writes the body to
standard output or to a file. The host is a peer's name, overlay address or anchor id. On a
terminal a bar shows progress. The exit status is 1, with one line that says why, if the body
did not come whole.
`

func main() { member.Main("get", run) }

func run(ctx context.Context, args []string) (err error) {
	var common member.Flags
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	common.Register(flags)
	output := flags.String("o", "", "write the body to this `file`")
	wait := flags.Duration("wait", 30*time.Second, "how long to wait for the peer's answer")
	if err := member.Parse(flags, args, usage, 1); err != nil {
		return err
	}
	node, err := common.Node()
	if err != nil {
		return err
	}
	defer member.Leave(node)
	out := io.Writer(os.Stdout)
	if *output != "" {
		f, err := os.Create(*output)
		if err != nil {
			return err
		}
		defer func() {
			if e := f.Close(); err == nil {
				err = e
			}
			if err != nil {
				os.Remove(*output)
			}
		}()
		out = f
	}
	return fetch(ctx, node.HTTPClient(), flags.Arg(0), *wait, out)
}

// fetch copies the body of url to out. wait bounds the time to the answer's header, not the
// transfer.
func fetch(ctx context.Context, client *http.Client, url string, wait time.Duration, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	impatient := time.AfterFunc(wait, func() { cancel(fmt.Errorf("no answer within %v", wait)) })
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	impatient.Stop()
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	body := io.Reader(response.Body)
	if term.IsTerminal(int(os.Stderr.Fd())) {
		bar := progressbar.DefaultBytes(response.ContentLength, url)
		defer bar.Close()
		body = io.TeeReader(body, bar)
	}
	n, err := io.Copy(out, body)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	return nil
}
