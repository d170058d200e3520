// Master runs the Master of a realm: an embedded NATS server. Any NATS server with JetStream
// does as well.
package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/examples/internal/member"
)

const usage = `Usage: master -listen HOST:PORT [-store DIR]

Runs a Master: it carries presence, records and signalling for any number of realms, and sees
sealed bytes only. Without -store everything is in memory; members announce themselves again
after a restart. It ends on SIGINT or SIGTERM.
`

func main() { member.Main("master", run) }

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("master", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:4222", "`address` to listen on")
	websocket := flags.String("websocket", "", "`address` to listen on for websockets too")
	store := flags.String("store", "", "keep the directory in this `folder`")
	if err := member.Parse(flags, args, usage, 0, 0); err != nil {
		return err
	}
	m, err := control.StartMaster(control.MasterOptions{Listen: *listen, Websocket: *websocket, StoreDir: *store})
	if err != nil {
		return err
	}
	fmt.Println("master:", m.URL())
	select {
	case <-ctx.Done():
		return m.Close()
	case <-m.Done():
		return m.Err()
	}
}
