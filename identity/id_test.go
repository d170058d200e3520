package identity

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseID(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var id ID
		for i := range id {
			id[i] = byte(r.Uint32())
		}
		for _, s := range []string{id.String(), strings.ToLower(id.String())} {
			if got, err := ParseID(s); err != nil || got != id {
				t.Fatalf("%s: %v, %v", s, got, err)
			}
		}
		if !strings.HasPrefix(id.String(), id.Short()) || len(id.Short()) != 8 || len(id.String()) != 52 {
			t.Fatalf("%s, short form %s", id, id.Short())
		}
	}
	good := ID{7}.String()
	for _, s := range []string{"", good[:51], good + "A", "1" + good[1:], good[:51] + "B", good[:51] + "=", good[:50] + "é"} {
		if id, err := ParseID(s); err == nil || id != (ID{}) {
			t.Errorf("%q: %v, %v", s, id, err)
		}
	}
	if !(ID{}).IsZero() || (ID{1}).IsZero() {
		t.Error("IsZero")
	}
	if r := (RealmID{1}); r.String() != (ID{1}).String() || r.Short() != r.String()[:8] {
		t.Error("a realm id is not printed as an anchor id is")
	}
}
