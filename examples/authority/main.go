// Authority makes a realm and the identities in it, and revokes them. It works offline; only
// publishing a revocation needs the Master.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/veil-net/anchor/examples/internal/member"
	"github.com/veil-net/anchor/identity"
)

const usage = `Usage:
  authority init   -dir DIR -realm NAME
  authority issue  -dir DIR -name NAME -out FILE [-group GROUP]... [-ipv4 ADDR] [-days N]
  authority show   FILE|DIR
  authority revoke -dir DIR [-master URL] NAME

init makes a realm: its key and its secret, in a file in DIR that nobody else may read. issue
makes the identity of one anchor, to be handed to it in private. show prints what an identity
file holds, or what a realm has issued, and no secret. revoke voids an identity; see
"authority revoke -h" for how the others learn of it. Each command explains itself with -h.
`

func main() { member.Main("authority", run) }

func run(ctx context.Context, args []string) error {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "init":
		return initialize(args[1:])
	case "issue":
		return issue(args[1:])
	case "show":
		return show(args[1:])
	case "revoke":
		return revoke(ctx, args[1:])
	}
	flags := flag.NewFlagSet("authority", flag.ContinueOnError)
	if err := member.Parse(flags, args, usage, 1, 1); err != nil {
		return err
	}
	return fmt.Errorf("there is no command %q; see -h", command)
}

const initUsage = `Usage: authority init -dir DIR -realm NAME

Makes a realm. The name is for people; what tells realms apart is the key, in DIR.
`

func initialize(args []string) error {
	flags := flag.NewFlagSet("authority init", flag.ContinueOnError)
	dir := flags.String("dir", "", "`folder` for the realm, made if it is not there (required)")
	realm := flags.String("realm", "", "`name` of the realm (required)")
	if err := member.Parse(flags, args, initUsage, 0, 0); err != nil {
		return err
	}
	if err := required("-dir", *dir, "-realm", *realm); err != nil {
		return err
	}
	a, err := identity.NewAuthority(*realm)
	if err != nil {
		return err
	}
	if err := a.Save(*dir); err != nil {
		return err
	}
	fmt.Printf("realm %s, id %s, in %s\n", a.Name(), a.Realm(), *dir)
	return nil
}

const issueUsage = `Usage: authority issue -dir DIR -name NAME -out FILE [-group GROUP]... [-ipv4 ADDR] [-days N]

Issues an identity. FILE holds the anchor's private key: it belongs to that anchor alone. By
default anchors talk if they share a group, or if neither has any.
`

func issue(args []string) error {
	var o identity.IssueOptions
	flags := flag.NewFlagSet("authority issue", flag.ContinueOnError)
	dir := flags.String("dir", "", "`folder` of the realm (required)")
	out := flags.String("out", "", "`file` for the identity, not there yet (required)")
	days := flags.Int("days", 365, "how many `days` it is in force")
	flags.StringVar(&o.Name, "name", "", "`name` of the anchor (required)")
	flags.TextVar(&o.IPv4, "ipv4", netip.Addr{}, "IPv4 `address` on the overlay; every anchor has an IPv6 address")
	flags.Func("group", "`group` of the anchor; may be given several times", func(g string) error {
		o.Groups = append(o.Groups, g)
		return nil
	})
	if err := member.Parse(flags, args, issueUsage, 0, 0); err != nil {
		return err
	}
	if err := required("-dir", *dir, "-name", o.Name, "-out", *out); err != nil {
		return err
	}
	if *days < 1 {
		return errors.New("-days must be at least 1")
	}
	if _, err := os.Lstat(*out); err == nil {
		return fmt.Errorf("%s is there already, and an identity cannot be made again", *out)
	}
	a, err := identity.OpenAuthority(*dir)
	if err != nil {
		return err
	}
	o.NotBefore = time.Now()
	o.NotAfter = o.NotBefore.AddDate(0, 0, *days)
	id, err := a.Issue(o)
	if err != nil {
		return err
	}
	// The books first: a certificate that the realm does not know of could not be revoked.
	if err := a.Save(*dir); err != nil {
		return err
	}
	if err := id.Save(*out); err != nil {
		return err
	}
	return describe(os.Stdout, id)
}

// required reports the first flag without a value, of pairs of flag and value.
func required(pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return fmt.Errorf("%s is missing; see -h", pairs[i])
		}
	}
	return nil
}
