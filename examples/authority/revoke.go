package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veil-net/anchor"
	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/examples/internal/member"
	"github.com/veil-net/anchor/identity"
)

const revokeUsage = `Usage: authority revoke -dir DIR [-master URL] [NAME]

Voids the identity in force for NAME: the realm's revocation list grows, in DIR. With -master
the list is published at once, and members that are connected close what they have open with
that anchor. Without it nobody learns of the list before it is published: call revoke again
with -master, then without a NAME.
`

// publishWithin bounds the time to reach the Master.
const publishWithin = 30 * time.Second

func revoke(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("authority revoke", flag.ContinueOnError)
	dir := flags.String("dir", "", "`folder` of the realm (required)")
	master := flags.String("master", "", "`URL` of the Master to publish the list at")
	if err := member.Parse(flags, args, revokeUsage, 0, 1); err != nil {
		return err
	}
	if err := required("-dir", *dir); err != nil {
		return err
	}
	name := flags.Arg(0)
	if name == "" && *master == "" {
		return errors.New("whom? a NAME, -master, or both; see -h")
	}
	a, err := identity.OpenAuthority(*dir)
	if err != nil {
		return err
	}
	publisher, err := openPublisher(a, *dir)
	if err != nil {
		return err
	}
	if name != "" {
		if _, err := a.Revoke(name); err != nil {
			return err
		}
		if err := a.Save(*dir); err != nil {
			return err
		}
	}
	list := a.Revocations()
	if list == nil {
		return fmt.Errorf("realm %s has revoked nobody", a.Name())
	}
	if name != "" {
		fmt.Printf("%s is revoked; list number %d\n", name, list.Number)
	}
	if *master == "" {
		fmt.Printf("not published yet; that takes: authority revoke -dir %s -master URL\n", *dir)
		return nil
	}
	if err := publish(ctx, publisher, *master, list); err != nil {
		return fmt.Errorf("the list is kept in %s but not published: %w", *dir, err)
	}
	fmt.Printf("list number %d is published at %s\n", list.Number, *master)
	return os.Remove(filepath.Join(*dir, publisherFile))
}

// publisherFile holds, in the realm's folder, the identity that publishes the next list.
const publisherFile = "publisher.anchor"

// openPublisher returns an identity to publish with: only members can write to the directory. It
// is made before the revocation and kept until the list is published, because the realm secret
// changes with the list, and the members hold the one before.
func openPublisher(a *identity.Authority, dir string) (*identity.Identity, error) {
	path := filepath.Join(dir, publisherFile)
	id, err := identity.Load(path, identity.LoadOptions{})
	if err == nil && id.Check(nil) == nil {
		return id, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	id, err = a.Issue(identity.IssueOptions{Name: "authority-" + strings.ToLower(rand.Text()[:8])})
	if err != nil {
		return nil, err
	}
	if err := a.Save(dir); err != nil {
		return nil, err
	}
	return id, id.Save(path)
}

// publish joins the realm for as long as it takes to hand over the list.
func publish(ctx context.Context, id *identity.Identity, master string, list *identity.RevocationList) error {
	node, err := anchor.New(anchor.Config{Identity: id, Control: control.NATS(master)})
	if err != nil {
		return err
	}
	defer node.Close()
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	return node.Revoke(ctx, list)
}
