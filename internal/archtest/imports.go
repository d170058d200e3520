package archtest

import (
	"slices"
	"strconv"
	"strings"
)

// families are the modules that only some packages may use, by the beginning of their import
// paths. Other modules than these and golang.org/x need an entry here: no package takes a
// dependency along unseen.
var families = map[string]string{
	"pion":        "github.com/pion/",
	"gvisor":      "gvisor.dev/gvisor/",
	"nats":        "github.com/nats-io/",
	"circl":       "github.com/cloudflare/circl/",
	"cbor":        "github.com/fxamacker/cbor/",
	"wireguard":   "golang.zx2c4.com/wireguard/",
	"netlink":     "github.com/vishvananda/netlink",
	"progressbar": "github.com/schollz/progressbar/",
}

// rule says what the packages in a folder and below may import. Standard library packages,
// golang.org/x and packages in the same folder tree are allowed unless pure is set.
type rule struct {
	dir    string
	pure   bool     // the standard library only
	own    []string // folders of this module; a trailing /... takes in what is below
	family []string // keys of families
}

// rules are the lines of talk between the packages: a stage knows those below it. The first
// rule whose folder holds a package decides; a package without a rule is a problem.
var rules = []rule{
	{dir: "internal/wire", pure: true},
	{dir: "internal/packet", pure: true},
	{dir: "internal/policy", pure: true},
	{dir: "internal/hosttun", own: []string{"internal/..."}, family: []string{"wireguard", "netlink"}},
	{dir: "internal", own: []string{"internal/..."}},
	{dir: "identity", own: []string{"internal/wire"}, family: []string{"circl", "cbor"}},
	{dir: "control", own: []string{"identity", "internal/..."}, family: []string{"nats"}},
	{dir: "tether", own: []string{"control", "identity", "internal/..."}, family: []string{"pion"}},
	{dir: "route", own: []string{"tether", "identity", "internal/..."}},
	{dir: "stream", own: []string{"route", "identity", "internal/..."}, family: []string{"circl"}},
	{dir: "egress", own: []string{"stream", "identity", "internal/..."}, family: []string{"wireguard"}},
	{dir: "ingress", own: []string{"stream", "identity", "internal/..."}, family: []string{"wireguard"}},
	{dir: "netstack", own: []string{"internal/..."}, family: []string{"gvisor", "wireguard"}},
	{dir: "examples/speedtest/peers", family: []string{"pion", "gvisor", "wireguard"}},
	{dir: "examples", own: []string{".", "control", "identity", "examples/..."}, family: []string{"progressbar", "wireguard"}},
	{dir: ".", own: []string{"netstack", "egress", "ingress", "stream", "route", "tether", "control", "identity", "internal/..."}, family: []string{"wireguard"}},
}

// Imports checks what packages import, test files and packages that help tests excepted:
// everything may be imported there.
func (m *Module) Imports() []Problem {
	var out []Problem
	for _, f := range m.Files {
		if f.IsTest() || helpsTests(f.Dir()) {
			continue
		}
		i := slices.IndexFunc(rules, func(r rule) bool {
			return r.dir == f.Dir() || r.dir != "." && within(f.Dir(), r.dir)
		})
		if i < 0 {
			out = append(out, Problem{Path: f.Path, Text: "no import rule covers this package; add one to internal/archtest"})
			continue
		}
		for _, spec := range f.AST.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue // the parser has checked it
			}
			if why := rules[i].refuses(target); why != "" {
				out = append(out, m.problem(f, spec, "%s must not import %s: %s", f.Dir(), target, why))
			}
		}
	}
	return out
}

// refuses returns why a package under the rule may not import target, or "".
func (r rule) refuses(target string) string {
	first, _, _ := strings.Cut(target, "/")
	if own, ok := ownFolder(target); ok {
		switch {
		case helpsTests(own):
			return "packages that help tests are for test files"
		case r.pure:
			return "it uses the standard library only"
		case r.dir != "." && within(own, r.dir):
			return ""
		case !slices.ContainsFunc(r.own, func(allowed string) bool { return matches(own, allowed) }):
			return "that is not below it in the pipeline"
		}
		return ""
	}
	switch {
	case !strings.Contains(first, "."):
		return "" // standard library
	case r.pure:
		return "it uses the standard library only"
	case strings.HasPrefix(target, "golang.org/x/"):
		return ""
	}
	for name, prefix := range families {
		if strings.HasPrefix(target, prefix) {
			if slices.Contains(r.family, name) {
				return ""
			}
			return name + " is for other packages"
		}
	}
	return "that module is not in the list of dependencies"
}

// ownFolder returns the folder of an import path of this module.
func ownFolder(target string) (string, bool) {
	if target == ModulePath {
		return ".", true
	}
	return strings.CutPrefix(target, ModulePath+"/")
}

func matches(dir, pattern string) bool {
	root, below := strings.CutSuffix(pattern, "/...")
	return below && within(dir, root) || dir == pattern
}
