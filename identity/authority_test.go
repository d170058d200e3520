package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestIssueDefaults(t *testing.T) {
	a := must(NewAuthority("Example Corp."))(t)
	now := time.Date(2026, 5, 1, 8, 0, 0, 999, time.UTC)
	a.Clock = func() time.Time { return now }
	id := must(a.Issue(IssueOptions{Name: "bob", Groups: []string{"z", "a", "z"}, IPv4: netip.MustParseAddr("::ffff:10.0.0.1")}))(t)
	c := id.Certificate()
	if !c.NotBefore.Equal(now.Truncate(time.Second)) || !c.NotAfter.Equal(time.Date(2027, 5, 1, 8, 0, 0, 0, time.UTC)) {
		t.Errorf("valid from %v to %v", c.NotBefore, c.NotAfter)
	}
	if !slices.Equal(c.Groups, []string{"a", "z"}) || c.IPv4 != netip.MustParseAddr("10.0.0.1") || c.Serial != 1 || c.Realm != a.Realm() {
		t.Errorf("certificate says %+v", c)
	}
	if g, s := id.RealmSecret(); g != 0 || s != a.secret {
		t.Errorf("secret of generation %d", g)
	}
	if _, _, ok := id.PreviousRealmSecret(); ok || id.Revocations() != nil || a.Revocations() != nil {
		t.Error("a new realm has a past")
	}
	if id.RealmName() != "Example Corp." || a.Name() != "Example Corp." || !a.Realm().Prefix().Contains(c.IPv6) {
		t.Error("realm")
	}
}

func TestIssueRefuses(t *testing.T) {
	a, _ := testRealm(t, goldenClock)
	for text, o := range map[string]IssueOptions{
		"issue \"Bob\"":         {Name: "Bob"},
		"issue \"\"":            {},
		"is a number":           {Name: "7"},
		"group":                 {Name: "x", Groups: []string{"a b"}},
		"33 groups":             {Name: "x", Groups: manyGroups(33)},
		"127.0.0.1":             {Name: "x", IPv4: netip.MustParseAddr("127.0.0.1")},
		"fd00::1":               {Name: "x", IPv4: netip.MustParseAddr("fd00::1")},
		"not-after 2026-03-01":  {Name: "x", NotAfter: goldenTime},
		"not-before 2028":       {Name: "x", NotBefore: goldenTime.AddDate(2, 0, 0), NotAfter: goldenTime.AddDate(1, 0, 0)},
		"not-before 1969":       {Name: "x", NotBefore: time.Unix(-1, 0), NotAfter: goldenTime},
		"not-after 25340230080": {Name: "x", NotAfter: time.Unix(maxUnix+1, 0)},
	} {
		_, err := a.Issue(o)
		wantErr(t, err, ErrFormat, text)
		wantErr(t, err, ErrFormat, "identity: issue ")
	}
	if n := len(a.Issued()); n != 1 || a.nextSerial != 2 {
		t.Errorf("refused certificates left traces: %d in the books, next serial %d", n, a.nextSerial)
	}
	_, err := NewAuthority("")
	wantErr(t, err, ErrFormat, "realm name")
}

func TestNamesAndAddressesAreUnique(t *testing.T) {
	now := goldenTime
	a, _ := testRealm(t, func() time.Time { return now }) // bob, 10.0.0.1, for a year
	issue := func(name, ip string) error {
		o := IssueOptions{Name: name, NotAfter: now.AddDate(3, 0, 0)}
		if ip != "" {
			o.IPv4 = netip.MustParseAddr(ip)
		}
		_, err := a.Issue(o)
		return err
	}
	wantErr(t, issue("bob", ""), ErrInUse, `identity: issue "bob": name is in use: certificate 1 is valid until 2027-03-01; revoke it first`)
	wantErr(t, issue("eve", "10.0.0.1"), ErrInUse, `identity: issue "eve": address 10.0.0.1 is in use by bob`)
	now = goldenTime.AddDate(1, 0, 0).Add(ClockTolerance) // the last moment
	wantErr(t, issue("bob", ""), ErrInUse, "name")
	now = now.Add(time.Second)
	if err := issue("bob", "10.0.0.1"); err != nil {
		t.Errorf("after expiry: %v", err)
	}
	wantErr(t, issue("bob", ""), ErrInUse, "certificate 2")
	must(a.Revoke("bob"))(t)
	if err := issue("bob", "10.0.0.1"); err != nil {
		t.Errorf("after revocation: %v", err)
	}
	wantErr(t, issue("eve", "10.0.0.1"), ErrInUse, "address")
}

func TestRevoke(t *testing.T) {
	a, bob := testRealm(t, goldenClock)
	eve := must(a.Issue(IssueOptions{Name: "eve"}))(t)
	_, err := a.Revoke("nobody")
	wantErr(t, err, ErrNotIssued, `identity: revoke "nobody": no certificate in force`)
	if a.Revocations() != nil {
		t.Error("a failed revocation made a list")
	}
	l := must(a.Revoke("bob"))(t)
	if l.Number != 1 || l.Generation != 1 || !slices.Equal(l.Serials, []uint64{1}) || l.Realm != a.Realm() || a.Revocations() != l {
		t.Errorf("list says %+v", l)
	}
	_, err = a.Revoke("bob")
	wantErr(t, err, ErrNotIssued, "bob")

	again := must(a.Issue(IssueOptions{Name: "bob"}))(t)
	g, s := again.RealmSecret()
	if !l.HasSecret(g, s) || l.HasSecret(bob.RealmSecret()) || l.HasSecret(0, s) {
		t.Error("the list does not tell the new secret from the old")
	}
	if pg, ps, ok := again.PreviousRealmSecret(); !ok || pg != 0 || ps != bob.secret {
		t.Error("the new identity lacks the secret that other members still use")
	}
	if again.Revocations() == nil || again.Revocations().Number != 1 {
		t.Error("the new identity lacks the list")
	}
	v := NewVerifier(eve, goldenClock)
	if !v.Apply(must(v.Revocations(l.Raw))(t)) {
		t.Fatal("list is not taken")
	}
	wantErr(t, v.Check(bob.Certificate()), ErrRevoked, "identity: bob.anchor: certificate is revoked (serial 1, revocation list 1)")
	if err := v.Check(again.Certificate()); err != nil {
		t.Error(err)
	}
}

// TestExpiredSerialsLeaveTheList keeps lists from growing for ever.
func TestExpiredSerialsLeaveTheList(t *testing.T) {
	now := goldenTime
	a, _ := testRealm(t, func() time.Time { return now })
	must(a.Issue(IssueOptions{Name: "brief", NotAfter: now.Add(time.Hour)}))(t)
	must(a.Issue(IssueOptions{Name: "eve"}))(t)
	must(a.Revoke("brief"))(t)
	now = now.Add(time.Hour + expiredFor)
	if l := must(a.Revoke("bob"))(t); !slices.Equal(l.Serials, []uint64{1, 2}) {
		t.Errorf("list has %v", l.Serials)
	}
	now = now.Add(time.Second)
	if l := must(a.Revoke("eve"))(t); !slices.Equal(l.Serials, []uint64{1, 3}) || l.Number != 3 || l.Generation != 3 {
		t.Errorf("list has %v", l.Serials)
	}
	if all := a.Issued(); len(all) != 2 || !all[0].Revoked || all[0].Name != "bob" || all[0].IPv4 != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("books say %v", all)
	}
}

func TestRevocationLimit(t *testing.T) {
	a, _ := testRealm(t, goldenClock)
	l := &RevocationList{Realm: a.Realm(), Number: 1, Generation: 1}
	for range maxRevoked {
		e := a.issued[0]
		e.Serial, e.Name = a.nextSerial, fmt.Sprint("n", a.nextSerial)
		a.nextSerial++
		a.issued, l.Serials = append(a.issued, e), append(l.Serials, e.Serial)
	}
	a.revocations = l
	if _, err := a.Revoke("bob"); err == nil || errors.Is(err, ErrNotIssued) {
		t.Fatalf("a list of %d: %v", maxRevoked+1, err)
	}
	if a.Revocations() != l || a.generation != 0 {
		t.Error("a failed revocation changed the authority")
	}
}

// TestAuthorityModel runs random commands, with the file in between, against a plain model.
func TestAuthorityModel(t *testing.T) {
	type held struct {
		name, ip string
		until    time.Time
		revoked  bool
	}
	r := rand.New(rand.NewPCG(9, 10))
	now := goldenTime
	clock := func() time.Time { return now }
	dir := t.TempDir()
	a := must(NewAuthority("model"))(t)
	a.Clock = clock
	var model []held
	var revocations uint64
	for step := range 1200 {
		name, ip := fmt.Sprintf("n%d", r.IntN(6)), fmt.Sprintf("10.0.0.%d", 1+r.IntN(6))
		inBooks := func(h held) bool { return !h.revoked && now.Sub(h.until) <= expiredFor }
		switch r.IntN(6) {
		case 0, 1, 2:
			o := IssueOptions{Name: name, IPv4: netip.MustParseAddr(ip), NotAfter: now.Add(time.Duration(1+r.IntN(200)) * time.Hour)}
			free := !slices.ContainsFunc(model, func(h held) bool {
				return !h.revoked && (h.name == name || h.ip == ip) && !now.After(h.until.Add(ClockTolerance))
			})
			id, err := a.Issue(o)
			if (err == nil) != free || err != nil && !errors.Is(err, ErrInUse) {
				t.Fatalf("step %d: issue %s %s: %v, free: %v", step, name, ip, err, free)
			}
			if err == nil {
				model = append(model, held{name: name, ip: ip, until: o.NotAfter})
				if id.Certificate().Serial != uint64(len(model)) {
					t.Fatalf("step %d: serial %d, want %d", step, id.Certificate().Serial, len(model))
				}
			}
		case 3:
			want := slices.ContainsFunc(model, func(h held) bool { return h.name == name && inBooks(h) })
			_, err := a.Revoke(name)
			if (err == nil) != want || err != nil && !errors.Is(err, ErrNotIssued) {
				t.Fatalf("step %d: revoke %s: %v, want it to work: %v", step, name, err, want)
			}
			if err == nil {
				revocations++
				for i := range model {
					model[i].revoked = model[i].revoked || model[i].name == name && inBooks(model[i])
				}
				if l := a.Revocations(); l.Number != revocations || uint64(l.Generation) != revocations {
					t.Fatalf("step %d: list %d, generation %d, want %d", step, l.Number, l.Generation, revocations)
				}
				for i, h := range model {
					if listed := a.Revocations().Revoked(uint64(i + 1)); listed != (h.revoked && now.Sub(h.until) <= expiredFor) {
						t.Fatalf("step %d: serial %d is listed: %v", step, i+1, listed)
					}
				}
			}
		case 4:
			now = now.Add(time.Duration(r.IntN(40)) * time.Hour)
		case 5:
			if r.IntN(4) == 0 {
				if err := a.Save(dir); err != nil {
					t.Fatal(err)
				}
				a = must(OpenAuthority(dir))(t)
				a.Clock = clock
			}
		}
	}
	if revocations < 10 || len(model) < 100 {
		t.Fatalf("%d revocations, %d certificates: the test did too little", revocations, len(model))
	}
}

func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "realm")
	a, bob := testRealm(t, goldenClock)
	must(a.Revoke("bob"))(t)
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && runtime.GOOS != "js" {
		for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, AuthorityFile): 0o600} {
			if info := must(os.Stat(path))(t); info.Mode().Perm() != want {
				t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
			}
		}
	}
	b := must(OpenAuthority(dir))(t)
	b.Clock = goldenClock
	if b.Realm() != a.Realm() || b.Name() != a.Name() || b.secret != a.secret || *b.previous != *a.previous ||
		fmt.Sprint(b.Issued()) != fmt.Sprint(a.Issued()) || b.Revocations().Number != 1 {
		t.Error("the authority reads differently")
	}
	eve := must(b.Issue(IssueOptions{Name: "eve"}))(t)
	if eve.Certificate().Serial != 2 {
		t.Errorf("serial %d", eve.Certificate().Serial)
	}
	must(NewVerifier(bob, nil).Certificate(eve.Certificate().Raw))(t)
	if g, s := eve.RealmSecret(); g != 1 || s != a.secret {
		t.Error("secret is not the saved one")
	}
}

func TestSaveRefusesToOverwrite(t *testing.T) {
	dir := t.TempDir()
	a, _ := testRealm(t, nil)
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	b, _ := testRealm(t, nil)
	wantErr(t, b.Save(dir), fs.ErrExist, "another authority is there")

	// Two programs at once: the second to save is told, and loses nothing of the first.
	first, second := must(OpenAuthority(dir))(t), must(OpenAuthority(dir))(t)
	must(first.Revoke("bob"))(t)
	if err := errors.Join(first.Save(dir), first.Save(dir)); err != nil {
		t.Fatal(err)
	}
	must(second.Issue(IssueOptions{Name: "eve"}))(t)
	wantErr(t, second.Save(dir), ErrChanged, "identity: save authority")
	if got := must(OpenAuthority(dir))(t); got.Revocations() == nil {
		t.Error("the revocation is lost")
	}
	path := filepath.Join(dir, AuthorityFile)
	wantErr(t, a.Save(path), syscall.ENOTDIR, "identity: save authority "+filepath.Join(path, AuthorityFile))
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := a.Save(dir); err == nil {
		t.Error("Save replaced a directory")
	}
	if err := a.Save(t.TempDir()); err != nil { // a copy elsewhere is no conflict
		t.Error(err)
	}
}

func TestOpenAuthorityErrors(t *testing.T) {
	a, _ := testRealm(t, nil)
	must(a.Revoke("bob"))(t)
	good := must(a.marshal())(t)
	other, stranger := testRealm(t, nil)
	must(other.Revoke("bob"))(t)
	changed := func(change func(f *authorityFile)) []byte {
		var f authorityFile
		if err := strict.unmarshal(must(decodeFile(magicAuthority, good))(t), &f); err != nil {
			t.Fatal(err)
		}
		change(&f)
		return encodeFile(magicAuthority, must(strict.marshal(&f))(t))
	}
	for text, c := range map[string]struct {
		content []byte
		want    error
	}{
		"0 bytes":             {nil, ErrTruncated},
		"holds an identity":   {must(stranger.Marshal())(t), ErrNotIdentity},
		"checksum":            {flipped(good, 200), ErrCorrupt},
		"secret":              {changed(func(f *authorityFile) { f.Seed = nil }), ErrFormat},
		"a secret":            {changed(func(f *authorityFile) { f.Generation = 0 }), ErrFormat},
		"realm name":          {changed(func(f *authorityFile) { f.Name = "\n" }), ErrFormat},
		"order at serial 1":   {changed(func(f *authorityFile) { f.NextSerial = 1 }), ErrFormat},
		"order at serial":     {changed(func(f *authorityFile) { f.Issued = append(f.Issued, f.Issued[0]) }), ErrFormat},
		"the books":           {changed(func(f *authorityFile) { f.Issued[0].ID = nil }), ErrFormat},
		"list is of another":  {changed(func(f *authorityFile) { f.Revocations = other.Revocations().Raw }), ErrForeignRealm},
		"core deterministic":  {encodeFile(magicAuthority, []byte{0xb8, 0}), ErrFormat},
		"wrong kind of file:": {[]byte("#!/bin/sh"), ErrNotIdentity},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, AuthorityFile)
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenAuthority(dir)
		wantErr(t, err, c.want, text)
		wantErr(t, err, c.want, "identity: open authority "+path+": ")
	}
	if runtime.GOOS != "windows" && runtime.GOOS != "js" {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, AuthorityFile), good, 0o640); err != nil {
			t.Fatal(err)
		}
		_, err := OpenAuthority(dir)
		wantErr(t, err, ErrPermissions, "chmod 600")
	}
}

// TestAuthorityInParallel gives the race detector something to look at.
func TestAuthorityInParallel(t *testing.T) {
	a, _ := testRealm(t, nil)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := fmt.Sprint("n", i)
			for range 5 {
				if _, err := a.Issue(IssueOptions{Name: name}); err != nil {
					t.Error(err)
				}
				if _, err := a.Revoke(name); err != nil {
					t.Error(err)
				}
				if err := a.Save(dir); err != nil {
					t.Error(err)
				}
				_, _ = a.Issued(), a.Revocations()
			}
		})
	}
	wg.Wait()
	if l := a.Revocations(); l.Number != 20 || len(l.Serials) != 20 {
		t.Errorf("list %d with %d serials", l.Number, len(l.Serials))
	}
}

func manyGroups(n int) []string {
	g := make([]string, n)
	for i := range g {
		g[i] = fmt.Sprint("g", i)
	}
	return g
}
