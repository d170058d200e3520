package identity

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/cryptotest"
	"time"
)

// goldenTime is the clock of everything golden: unix day 20,513.
var goldenTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func goldenClock() time.Time { return goldenTime }

// golden is a realm made from fixed randomness: mallory was revoked before carol was issued.
type golden struct {
	authority *Authority
	alice     *Identity // no groups, no IPv4, generation 0
	carol     *Identity // groups, IPv4, generation 1, carries the list
	session   *Session  // of carol
}

// makeGolden makes the realm anew, the same at each call: circl draws from crypto/rand, which
// cryptotest replaces.
func makeGolden(t *testing.T) *golden {
	cryptotest.SetGlobalRandom(t, 20260301)
	g := &golden{authority: must(NewAuthority("golden realm"))(t)}
	g.authority.Clock = goldenClock
	g.alice = must(g.authority.Issue(IssueOptions{Name: "alice"}))(t)
	must(g.authority.Issue(IssueOptions{Name: "mallory"}))(t)
	must(g.authority.Revoke("mallory"))(t)
	g.carol = must(g.authority.Issue(IssueOptions{
		Name: "carol", Groups: []string{"web", "db"}, IPv4: netip.MustParseAddr("10.9.0.2"),
	}))(t)
	g.session = must(NewSession(g.carol, SessionOptions{MTU: 1400, Clock: goldenClock}))(t)
	return g
}

// files returns what stands in testdata/golden.
func (g *golden) files(t *testing.T) map[string][]byte {
	r := g.session.Record()
	return map[string][]byte{
		"certificate.cbor": g.carol.Certificate().Raw,
		"record.cbor":      r.Raw,
		"revocations.cbor": g.authority.Revocations().Raw,
		"locator.bin":      r.Current.Locator,
		"identity.bin":     must(g.carol.Marshal())(t),
		"authority.bin":    must(g.authority.marshal())(t),
		"vectors.json":     g.vectors(t),
	}
}

// vectors returns the values behind the files, for implementations in other languages. The
// seeds make keys, locators, tags and commitments; other signatures are randomised and can
// be verified only.
func (g *golden) vectors(t *testing.T) []byte {
	r, c := g.session.Record(), g.carol.Certificate()
	kem, _, err := epochKEM(g.carol.key.seed, r.Current.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	kemSeed := make([]byte, 32)
	kem.Pack(kemSeed)
	proof := must(g.session.SequenceProof(r.Current.Tag, 1000))(t)
	v := map[string]any{
		"authority_seed":      hexOf(g.authority.key.seed[:]),
		"realm_id":            hexOf(c.Realm[:]),
		"realm_secret":        hexOf(g.carol.secret[:]),
		"generation":          g.carol.generation,
		"identity_seed":       hexOf(g.carol.key.seed[:]),
		"anchor_id":           hexOf(c.ID[:]),
		"anchor_id_base32":    c.ID.String(),
		"ipv6":                c.IPv6.String(),
		"epoch":               r.Current.Epoch,
		"epoch_kem_seed":      hexOf(kemSeed),
		"tag":                 hexOf(r.Current.Tag[:]),
		"previous_tag":        hexOf(r.Previous.Tag[:]),
		"sequence_commitment": hexOf(r.Sequence[:]),
		"sequence_proof_1000": hexOf(proof[:]),
		"session_nonce":       hexOf(r.Session[:]),
		"counter":             r.Counter,
	}
	return append(must(json.MarshalIndent(v, "", "\t"))(t), '\n')
}

func TestGolden(t *testing.T) {
	g := makeGolden(t)
	for name, want := range g.files(t) {
		path := filepath.Join("testdata", "golden", name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := must(os.ReadFile(path))(t); !bytes.Equal(got, want) {
			t.Errorf("%s differs from what the code makes now; if that is meant, run with -update", path)
		}
	}
	if *update {
		writeSeeds(t, g)
	}
}

// TestGoldenMeaning reads the stored bytes and checks each field, so that a change of encoder
// and decoder together does not go unseen.
func TestGoldenMeaning(t *testing.T) {
	id := must(Parse(goldenFile(t, "identity.bin")))(t)
	var v struct {
		IdentitySeed string `json:"identity_seed"`
		AnchorID     string `json:"anchor_id_base32"`
		IPv6         string `json:"ipv6"`
		Tag          string `json:"tag"`
	}
	if err := json.Unmarshal(goldenFile(t, "vectors.json"), &v); err != nil {
		t.Fatal(err)
	}
	ver := NewVerifier(id, goldenClock)
	r := must(ver.Record(goldenFile(t, "record.cbor")))(t)
	c := r.Certificate
	got := fmt.Sprintln(hexOf(id.key.seed[:]), c.Serial, c.Name, c.ID, c.Groups, c.Addrs(), c.NotBefore, c.NotAfter,
		r.Current.Epoch, r.Previous.Epoch, hexOf(r.Current.Tag[:]), r.Counter, r.MTU, r.ListNumber)
	want := fmt.Sprintln(v.IdentitySeed, 3, "carol", v.AnchorID, "[db web]", "["+v.IPv6, "10.9.0.2]",
		"2026-03-01 12:00:00 +0000 UTC", "2027-03-01 12:00:00 +0000 UTC", 20513, 20512, v.Tag, goldenTime.UnixMilli(), 1400, 1)
	if got != want {
		t.Errorf("record says\n%swant\n%s", got, want)
	}
	if !bytes.Equal(r.Current.Locator, goldenFile(t, "locator.bin")) {
		t.Error("record's locator is not the golden one")
	}
	l := must(ver.Revocations(goldenFile(t, "revocations.cbor")))(t)
	if l.Number != 1 || l.Generation != 1 || fmt.Sprint(l.Serials) != "[2]" || !l.HasSecret(id.RealmSecret()) {
		t.Errorf("list says number %d, generation %d, serials %v", l.Number, l.Generation, l.Serials)
	}
	a := must(parseAuthority(goldenFile(t, "authority.bin")))(t)
	if a.Name() != "golden realm" || a.Realm() != c.Realm || len(a.Issued()) != 3 {
		t.Errorf("authority says %v, %v", a, a.Issued())
	}
}

func goldenFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// must returns v, or ends the test by the error.
func must[V any](v V, err error) func(testing.TB) V {
	return func(t testing.TB) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
