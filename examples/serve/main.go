// Serve is a file server on the overlay. It logs who asks, by certified name and id.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/examples/internal/member"
)

const usage = `Usage: serve -identity FILE [-master URL] -dir PUBLIC [-listen :80]

Serves the files of a folder by HTTP on the overlay, to the members that the access rule
admits: those that share a group with this anchor, or all if neither has groups. Each request
is logged with the name and id that the asker's certificate shows.
`

func main() { member.Main("serve", run) }

func run(ctx context.Context, args []string) error {
	var common member.Flags
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	common.Register(flags)
	dir := flags.String("dir", "", "`folder` to serve (required)")
	listen := flags.String("listen", ":80", "overlay `address` to listen on")
	if err := member.Parse(flags, args, usage, 0, 0); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("-dir is missing; see -h")
	}
	root, err := os.OpenRoot(*dir) // no link leads out of it
	if err != nil {
		return fmt.Errorf("-dir: %w", err)
	}
	defer root.Close()
	node, err := common.Node(anchor.Config{})
	if err != nil {
		return err
	}
	defer common.Leave(node)
	startCtx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := node.Start(startCtx); err != nil {
		return err
	}
	listener, err := node.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	_, ip6 := node.Addrs()
	log.Info("serving", "name", node.Name(), "id", node.ID(), "addr", ip6, "listen", listener.Addr())
	return serve(ctx, node, listener, &http.Server{
		Handler:           logged(log, node, http.FileServerFS(root.FS())),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	})
}

// serve runs the server until ctx ends or the node closes.
func serve(ctx context.Context, node *anchor.Node, l net.Listener, s *http.Server) error {
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		if fault := node.Err(); fault != nil {
			err = fault
		}
		return err
	case <-ctx.Done():
	}
	s.Close()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// logged logs each request with who is behind it.
func logged(log *slog.Logger, node *anchor.Node, next http.Handler) http.Handler {
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
		log.Info("request", "method", r.Method, "path", r.URL.Path, "name", peer.Name, "id", peer.ID)
		next.ServeHTTP(w, r)
	})
}
