// Quickstart is the whole of Anchor in one process: a Master, a realm of its own, and two
// nodes, alice and bob. Bob serves HTTP on the overlay, alice fetches from him. It needs no
// root, no configuration and no network but loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "Usage: quickstart\n\nStarts a Master, a realm and two nodes in this process; one fetches http://bob/ from the\nother over the overlay, and everything is shown. It takes no flags.")
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	// The Master: an embedded NATS server. Any other program could join at its address.
	master, err := control.StartMaster(control.MasterOptions{Listen: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer master.Close()
	fmt.Fprintln(out, "master:", master.URL())

	// The realm: an authority issues identities. It works offline.
	realm, err := identity.NewAuthority("quickstart")
	if err != nil {
		return err
	}
	alice, err := join(ctx, out, realm, master, "alice", "10.99.0.1")
	if err != nil {
		return err
	}
	defer alice.Close()
	bob, err := join(ctx, out, realm, master, "bob", "10.99.0.2")
	if err != nil {
		return err
	}
	defer bob.Close()

	// Bob serves HTTP on the overlay, and knows who asks.
	listener, err := bob.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: greeter(bob), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Close()
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}()
	return fetch(ctx, out, alice, "http://bob/")
}

// join issues an identity and starts a node with it.
func join(ctx context.Context, out io.Writer, realm *identity.Authority, master *control.Master, name, ipv4 string) (*anchor.Node, error) {
	id, err := realm.Issue(identity.IssueOptions{Name: name, IPv4: netip.MustParseAddr(ipv4)})
	if err != nil {
		return nil, err
	}
	node, err := anchor.New(anchor.Config{Identity: id, Control: control.NATS(master.URL())})
	if err != nil {
		return nil, err
	}
	if err := node.Start(ctx); err != nil {
		node.Close()
		return nil, err
	}
	ip4, ip6 := node.Addrs()
	fmt.Fprintf(out, "%s: %s, %s, id %s\n", name, ip4, ip6, node.ID().Short())
	return node, nil
}

// greeter answers with the certified name of whoever asks.
func greeter(node *anchor.Node) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, err := net.ResolveTCPAddr("tcp", r.RemoteAddr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		peer, err := node.WhoIs(addr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, "hello %s", peer.Name)
	})
}

// fetch gets a URL over the overlay and prints what came, and how long it took.
func fetch(ctx context.Context, out io.Writer, node *anchor.Node, url string) error {
	began := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := node.HTTPClient().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	took := time.Since(began)
	if want := "hello " + node.Name(); string(body) != want {
		return fmt.Errorf("bob answers %q, want %q: he does not know who asked", body, want)
	}
	fmt.Fprintf(out, "bob answers: %s\n", body)
	for _, p := range node.Peers() {
		fmt.Fprintf(out, "session with %s: %s, %s\n", p.Name, p.Suite, p.Path)
	}
	fmt.Fprintf(out, "GET %s -> %d in %v\n", url, response.StatusCode, took.Round(time.Millisecond))
	return nil
}
