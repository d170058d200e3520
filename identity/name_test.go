package identity

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	id := ID{1, 2, 3}
	for _, name := range []string{
		"a", "bob", "bob-2", "2bob", "a--b", "0xg", "0xy", "x", "localhost", strings.Repeat("a", 63), strings.ToLower(id.String())[:51],
		strings.Repeat("1", 51) + "a", // of an id's length, but 1 is not in base32
	} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, why := range map[string]string{
		"":                             "0 characters",
		strings.Repeat("a", 64):        "64 characters",
		"Bob":                          "lower-case",
		"bob.anchor":                   "lower-case",
		"bob_2":                        "lower-case",
		"bøb":                          "lower-case",
		"bob\n":                        "lower-case",
		"bob\x00":                      "lower-case",
		"10.0.0.1":                     "lower-case",
		"fd00::1":                      "lower-case",
		"-bob":                         "hyphen",
		"bob-":                         "hyphen",
		"-":                            "hyphen",
		"10":                           "number",
		"0":                            "number",
		"0x7f000001":                   "number",
		"0x":                           "number",
		strings.ToLower(id.String()):   "anchor id",
		strings.ToLower(ID{}.String()): "anchor id",
	} {
		wantErr(t, CheckName(name), ErrFormat, why)
	}
}

func TestCheckGroups(t *testing.T) {
	many := make([]string, MaxGroups)
	for i := range many {
		many[i] = "g" + string(rune('a'+i/26)) + string(rune('a'+i%26))
	}
	for _, ok := range [][]string{nil, {"a"}, {"a", "b"}, {"10"}, many} {
		if err := checkGroups(ok); err != nil {
			t.Errorf("%v: %v", ok, err)
		}
	}
	for why, bad := range map[string][]string{
		"order":      {"b", "a"},
		"twice":      {"a", "a"},
		"lower-case": {"A"},
		"characters": {"a", ""},
		"33 groups":  append(slices.Clone(many), "z"),
	} {
		wantErr(t, checkGroups(bad), ErrFormat, why)
	}
}

func TestCheckRealmName(t *testing.T) {
	for _, ok := range []string{"x", "Example Corp.", "Zürich", strings.Repeat("a", 63)} {
		if err := checkRealmName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("a", 64), "a\nb", "\x1b[2J", "a\xff"} {
		if err := checkRealmName(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// wantErr checks that err wraps target and says text.
func wantErr(t testing.TB, err, target error, text string) {
	t.Helper()
	if !errors.Is(err, target) || !strings.Contains(err.Error(), text) {
		t.Errorf("error is %v, want one that is %q and says %q", err, target, text)
	}
}
