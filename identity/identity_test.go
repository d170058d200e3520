package identity

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// fileOf returns the decoded payload of an identity, for tests to change.
func fileOf(t testing.TB, id *Identity) *identityFile {
	t.Helper()
	var f identityFile
	payload := must(decodeFile(magicIdentity, must(id.Marshal())(t)))(t)
	if err := strict.unmarshal(payload, &f); err != nil {
		t.Fatal(err)
	}
	return &f
}

// TestParseParts expects parts that are well-formed but do not belong together to be found.
func TestParseParts(t *testing.T) {
	a, bob := testRealm(t, nil)
	eve := must(a.Issue(IssueOptions{Name: "eve"}))(t)
	other, stranger := testRealm(t, nil)
	must(other.Revoke("bob"))(t)
	for text, c := range map[string]struct {
		change func(f *identityFile)
		want   error
	}{
		"does not belong to the certificate of bob": {func(f *identityFile) { f.Seed = eve.key.seed[:] }, ErrMismatch},
		"certificate of eve":                        {func(f *identityFile) { f.Certificate = eve.Certificate().Raw }, ErrMismatch},
		"certificate of bob.anchor is of another":   {func(f *identityFile) { f.Certificate = stranger.Certificate().Raw }, ErrForeignRealm},
		"of another realm":                          {func(f *identityFile) { f.Authority = stranger.AuthorityKey() }, ErrForeignRealm},
		"signature is not valid":                    {func(f *identityFile) { f.Certificate = flipped(f.Certificate, 8*3000) }, ErrSignature},
		"list is of another realm":                  {func(f *identityFile) { f.Revocations = other.Revocations().Raw }, ErrForeignRealm},
		"revocation list":                           {func(f *identityFile) { f.Revocations = []byte{1} }, ErrFormat},
		"public key of 3 bytes":                     {func(f *identityFile) { f.Authority = f.Authority[:3] }, ErrFormat},
		"wrong length":                              {func(f *identityFile) { f.Seed = f.Seed[:31] }, ErrFormat},
		"secret":                                    {func(f *identityFile) { f.Secret = nil }, ErrFormat},
		"a secret":                                  {func(f *identityFile) { f.Generation, f.Previous = 1, make([]byte, 31) }, ErrFormat},
		"a secret has":                              {func(f *identityFile) { f.Previous = make([]byte, 32) }, ErrFormat},
		"realm name":                                {func(f *identityFile) { f.RealmName = "" }, ErrFormat},
	} {
		f := fileOf(t, bob)
		c.change(f)
		_, err := Parse(encodeFile(magicIdentity, must(strict.marshal(f))(t)))
		wantErr(t, err, c.want, text)
		wantErr(t, err, c.want, "identity: parse: ")
	}
}

func TestMarshalParse(t *testing.T) {
	a, bob := testRealm(t, nil)
	must(a.Revoke("bob"))(t)
	eve := must(a.Issue(IssueOptions{Name: "eve"}))(t)
	for _, id := range []*Identity{bob, eve} {
		got := must(Parse(must(id.Marshal())(t)))(t)
		if got.ID() != id.ID() || got.Realm() != a.Realm() || got.RealmName() != "test" || !bytes.Equal(got.Certificate().Raw, id.Certificate().Raw) ||
			!bytes.Equal(got.AuthorityKey(), id.AuthorityKey()) || fmt.Sprint(got.RealmSecret()) != fmt.Sprint(id.RealmSecret()) ||
			fmt.Sprint(got.PreviousRealmSecret()) != fmt.Sprint(id.PreviousRealmSecret()) {
			t.Errorf("%v reads differently", id)
		}
		if (got.Revocations() == nil) != (id.Revocations() == nil) {
			t.Errorf("%v: list %v, want %v", id, got.Revocations(), id.Revocations())
		}
		sig := must(got.Sign(ContextOpen, []byte("m")))(t)
		if !id.Certificate().Verify(ContextOpen, []byte("m"), sig) || id.Certificate().Verify(ContextAccept, []byte("m"), sig) {
			t.Errorf("%v: signature of the read key", id)
		}
	}
	bob.AuthorityKey()[0]++
	if !bytes.Equal(bob.AuthorityKey(), a.key.public.Bytes()) {
		t.Error("AuthorityKey returned the identity's own memory")
	}
}

func TestWithRealmSecret(t *testing.T) {
	_, id := testRealm(t, nil)
	_, first := id.RealmSecret()
	second, fourth := [32]byte{2}, [32]byte{4}
	if id.WithRealmSecret(0, second) != id {
		t.Error("an equal generation replaced the secret")
	}
	next := id.WithRealmSecret(1, second)
	if g, s := next.RealmSecret(); g != 1 || s != second {
		t.Errorf("generation %d", g)
	}
	if g, s, ok := next.PreviousRealmSecret(); !ok || g != 0 || s != first {
		t.Errorf("generation before is %d, %v", g, ok)
	}
	if g, s := id.RealmSecret(); g != 0 || s != first {
		t.Error("the identity itself has changed")
	}
	last := next.WithRealmSecret(3, fourth)
	if g, _ := last.RealmSecret(); g != 3 {
		t.Errorf("generation %d", g)
	}
	if _, _, ok := last.PreviousRealmSecret(); ok {
		t.Error("the secret of generation 1 passes for that of generation 2")
	}
	got := must(Parse(must(next.Marshal())(t)))(t)
	if fmt.Sprint(got.PreviousRealmSecret()) != fmt.Sprint(next.PreviousRealmSecret()) || got.ID() != id.ID() {
		t.Error("the new secret does not survive a file")
	}
}

func TestExpiredIdentityLoads(t *testing.T) {
	a, _ := testRealm(t, nil)
	id := must(a.Issue(IssueOptions{Name: "old", NotBefore: goldenTime, NotAfter: goldenTime.Add(time.Hour)}))(t)
	id = must(Parse(must(id.Marshal())(t)))(t)
	wantErr(t, id.Check(nil), ErrExpired, "old.anchor: certificate expired on 2026-03-01 13:00:00 UTC")
	if err := id.Check(goldenClock); err != nil {
		t.Error(err)
	}
}

// TestSecretsAreNotPrinted prints what holds secrets in every way that programs do.
func TestSecretsAreNotPrinted(t *testing.T) {
	a, id := testRealm(t, nil)
	s := must(NewSession(id, SessionOptions{}))(t)
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("m", "id", id, "authority", a, "session", s)
	}
	all := log.String()
	for _, v := range []any{id, a, s} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			all += fmt.Sprintf(verb, v) + "\n"
		}
	}
	for name, secret := range map[string][]byte{"identity seed": id.key.seed[:], "authority seed": a.key.seed[:], "realm secret": id.secret[:]} {
		for _, form := range []string{"%x", "%X", "%d", "%v", "%s", "%#v"} {
			text := strings.Trim(fmt.Sprintf(form, secret[:8]), "[]{}")
			text = strings.TrimPrefix(text, "[]byte{")
			if strings.Contains(all, text) {
				t.Errorf("%s is printed as %s", name, form)
			}
		}
	}
	if want := "bob.anchor (" + id.ID().Short() + ")"; fmt.Sprint(id) != want || !strings.Contains(log.String(), want) {
		t.Errorf("identity prints as %v", id)
	}
}
