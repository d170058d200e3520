package control_test

import (
	"context"
	"fmt"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/identity"
)

// Two anchors of a realm find each other by name and talk, over a Master in the same process.
func Example() {
	master, err := control.StartMaster(control.MasterOptions{})
	if err != nil {
		panic(err)
	}
	defer master.Close()
	authority, err := identity.NewAuthority("example")
	if err != nil {
		panic(err)
	}
	join := func(name string, h control.Handler) control.Channel {
		id, err := authority.Issue(identity.IssueOptions{Name: name})
		if err != nil {
			panic(err)
		}
		session, err := identity.NewSession(id, identity.SessionOptions{})
		if err != nil {
			panic(err)
		}
		c := control.New(master.Fabric(), session, identity.NewVerifier(id, nil), control.Options{})
		if err := c.Start(context.Background(), h); err != nil {
			panic(err)
		}
		return c
	}

	heard := make(chan control.Message)
	bob := join("bob", func(m control.Message) { heard <- m })
	defer bob.Close()
	alice := join("alice", nil)
	defer alice.Close()

	ctx := context.Background()
	record, err := alice.Lookup(ctx, control.Key{Name: "bob"}, false)
	if err != nil {
		panic(err)
	}
	if err := alice.Send(ctx, record.ID(), control.TopicSignal, []byte("hello")); err != nil {
		panic(err)
	}
	m := <-heard
	fmt.Printf("%s says %s\n", m.From.Name, m.Body)
	// Output: alice says hello
}
