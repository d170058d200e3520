package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/veil-net/anchor/examples/internal/member"
	"github.com/veil-net/anchor/identity"
)

const showUsage = `Usage: authority show FILE|DIR

Prints what the identity in FILE says, or what the realm in DIR has issued. It prints no secret.
`

func show(args []string) error {
	flags := flag.NewFlagSet("authority show", flag.ContinueOnError)
	if err := member.Parse(flags, args, showUsage, 1, 1); err != nil {
		return err
	}
	path := flags.Arg(0)
	if _, err := os.Stat(filepath.Join(path, identity.AuthorityFile)); err == nil {
		return showRealm(os.Stdout, path)
	}
	id, err := identity.Load(path, identity.LoadOptions{})
	if err != nil {
		return err
	}
	return describe(os.Stdout, id)
}

// describe prints an identity without its secrets.
func describe(w io.Writer, id *identity.Identity) error {
	c := id.Certificate()
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintf(t, "name:\t%s\n", c.Name)
	fmt.Fprintf(t, "id:\t%s\n", c.ID)
	fmt.Fprintf(t, "realm:\t%s, id %s\n", id.RealmName(), id.Realm())
	fmt.Fprintf(t, "serial:\t%d\n", c.Serial)
	for _, a := range c.Addrs() {
		fmt.Fprintf(t, "address:\t%s\n", a)
	}
	if len(c.Groups) > 0 {
		fmt.Fprintf(t, "groups:\t%s\n", strings.Join(c.Groups, ", "))
	}
	fmt.Fprintf(t, "in force:\t%s to %s%s\n", date(c.NotBefore), date(c.NotAfter), remark(id))
	return t.Flush()
}

// remark tells if an identity is not in force.
func remark(id *identity.Identity) string {
	err := id.Check(nil)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, identity.ErrExpired):
		return " (expired)"
	case errors.Is(err, identity.ErrNotYetValid):
		return " (not yet)"
	}
	return " (" + err.Error() + ")"
}

// showRealm prints the books of a realm.
func showRealm(w io.Writer, dir string) error {
	a, err := identity.OpenAuthority(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "realm %s, id %s\n", a.Name(), a.Realm())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "serial\tname\tid\tipv4\tuntil\t\n")
	for _, i := range a.Issued() {
		state, ipv4 := "", "-"
		if i.Revoked {
			state = "revoked"
		}
		if i.IPv4.IsValid() {
			ipv4 = i.IPv4.String()
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\n", i.Serial, i.Name, i.ID.Short(), ipv4, date(i.NotAfter), state)
	}
	return t.Flush()
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
