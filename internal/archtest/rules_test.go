package archtest

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// module loads files given as path and content in turn.
func module(t *testing.T, files ...string) *Module {
	t.Helper()
	m, err := Load(tree(files...))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tree(files ...string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return fsys
}

// expect compares problems with fragments of their text, in order.
func expect(t *testing.T, got []Problem, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d problems, want %d: %v", len(got), len(want), got)
	}
	for i, p := range got {
		if !strings.Contains(p.String(), want[i]) {
			t.Errorf("problem %d is %q, want one with %q", i, p, want[i])
		}
	}
}

func TestImports(t *testing.T) {
	const own = ModulePath + "/"
	for _, test := range []struct {
		file, imports string
		want          string // "" if it is allowed
	}{
		{"internal/wire/a.go", "encoding/binary", ""},
		{"internal/wire/a.go", "golang.org/x/sys/unix", "standard library only"},
		{"internal/packet/a.go", own + "internal/buffer", "standard library only"},
		{"internal/policy/deep/a.go", "github.com/pion/webrtc/v4", "standard library only"},
		{"internal/queue/a.go", own + "stream", "not below"},
		{"internal/stats/a.go", own + "internal/queue", ""},
		{"internal/hosttun/a.go", "github.com/vishvananda/netlink", ""},
		{"identity/a.go", "github.com/cloudflare/circl/kem/xwing", ""},
		{"identity/a.go", "github.com/fxamacker/cbor/v2", ""},
		{"identity/a.go", own + "internal/queue", "not below"},
		{"identity/a.go", own + "control", "not below"},
		{"control/a.go", "github.com/nats-io/nats.go", ""},
		{"control/a.go", "golang.org/x/crypto/hkdf", ""},
		{"control/a.go", "github.com/cloudflare/circl/kem/xwing", "circl is for other packages"},
		{"control/a.go", own + "tether", "not below"},
		{"tether/a.go", "github.com/pion/webrtc/v4", ""},
		{"tether/sub/a.go", own + "tether", ""},
		{"tether/a.go", own + "route", "not below"},
		{"route/a.go", own + "tether", ""},
		{"route/a.go", "github.com/pion/webrtc/v4", "pion is for other packages"},
		{"route/a.go", own + "control", "not below"},
		{"stream/a.go", own + "route", ""},
		{"stream/a.go", "github.com/cloudflare/circl/kem/xwing", ""},
		{"stream/a.go", own + "tether", "not below"},
		{"egress/a.go", own + "stream", ""},
		{"egress/a.go", "golang.zx2c4.com/wireguard/tun", ""},
		{"egress/a.go", own + "ingress", "not below"},
		{"ingress/a.go", own + "egress", "not below"},
		{"ingress/a.go", "gvisor.dev/gvisor/pkg/tcpip", "gvisor is for other packages"},
		{"netstack/a.go", "gvisor.dev/gvisor/pkg/tcpip", ""},
		{"netstack/a.go", own + "stream", "not below"},
		{"anchor.go", own + "egress", ""},
		{"anchor.go", "golang.zx2c4.com/wireguard/tun", ""},
		{"anchor.go", "github.com/nats-io/nats.go", "nats is for other packages"},
		{"anchor.go", own + "examples/internal/program", "not below"},
		{"examples/get/a.go", ModulePath, ""},
		{"examples/get/a.go", own + "identity", ""},
		{"examples/get/a.go", own + "examples/internal/program", ""},
		{"examples/get/a.go", "github.com/schollz/progressbar/v3", ""},
		{"examples/get/a.go", own + "stream", "not below"},
		{"examples/get/a.go", own + "internal/queue", "not below"},
		{"examples/get/a.go", "github.com/nats-io/nats.go", "nats is for other packages"},
		{"examples/speedtest/peers/a.go", "github.com/pion/webrtc/v4", ""},
		{"examples/speedtest/peers/a.go", own + "tether", "not below"},
		{"examples/speedtest/a.go", "github.com/pion/webrtc/v4", "pion is for other packages"},
		{"examples/get/a.go", own + "examples/internal/exampletest", "for test files"},
		{"egress/a.go", own + "internal/tuntest", "for test files"},
		{"egress/a_test.go", own + "internal/tuntest", ""},
		{"egress/a_test.go", "github.com/pion/webrtc/v4", ""},
		{"internal/tuntest/a.go", own + "stream", ""},
		{"stream/a.go", "github.com/sirupsen/logrus", "not in the list"},
		{"surprise/a.go", "fmt", "no import rule"},
	} {
		src := fmt.Sprintf("package a\n\nimport _ %q\n", test.imports)
		got := module(t, test.file, src).Imports()
		if test.want == "" {
			if len(got) != 0 {
				t.Errorf("%s imports %s: %v, want no problem", test.file, test.imports, got)
			}
			continue
		}
		if len(got) != 1 || !strings.Contains(got[0].Text, test.want) {
			t.Errorf("%s imports %s: %v, want a problem with %q", test.file, test.imports, got, test.want)
		}
	}
}

// TestImportsSeeEveryFile: constraints on builds do not hide a file.
func TestImportsSeeEveryFile(t *testing.T) {
	const src = "//go:build js && ignore\n\npackage a\n\nimport _ \"github.com/pion/webrtc/v4\"\n"
	expect(t, module(t, "route/a_js.go", src).Imports(), "route/a_js.go:5: route must not import")
}

func TestPackageDocs(t *testing.T) {
	expect(t, module(t,
		"good/a.go", "package good\n",
		"good/b.go", "// Package good is.\npackage good\n",
		"good/c_test.go", "// Not a doc.\npackage good_test\n",
		"bare/a.go", "package bare\n",
		"detached/a.go", "// Package detached is too far up.\n\npackage detached\n",
		"odd/a.go", "// This package is odd.\npackage odd\n",
		"program/a.go", "// Program runs.\npackage main\n",
		"onlytests/a_test.go", "package onlytests\n",
	).PackageDocs(), "bare: package bare has no doc", "detached: package detached has no doc", "odd: the doc comment does not begin")
}

func TestExportedDocs(t *testing.T) {
	m := module(t, "a.go", `package a

// Good is documented.
func Good() {}

func Bad() {}

type (
	// T is documented.
	T struct{}
	U[K any] struct{}
	v struct{}
)

// M is documented.
func (T) M() {}

func (*T) N() {}

func (u *U[K]) O() {}

func (v) P() {}

func quiet() {}

// Numbers of a kind.
const (
	One = 1
	Two = 2
)

var (
	Three = 3 // three
	Four  = 4
	five  = 5
	// Six and Seven belong together.
	Six   = 6
	Seven = 7
	Eight = 8
)
`, "a_test.go", "package a\n\nfunc Helper() {}\n")
	expect(t, m.ExportedDocs(), "a.go:6: exported function Bad", "exported name U", "exported function N",
		"exported function O", "exported name Four", "exported name Eight")
}

func TestSizes(t *testing.T) {
	lines := func(n int) string { return "package a\n" + strings.Repeat("\n", n-1) }
	expect(t, module(t,
		"fits.go", lines(maxLines),
		"fits_test.go", lines(maxTestLines),
		"long.go", lines(maxLines+1),
		"long_test.go", lines(maxTestLines+1),
		"testdata/long.go", lines(5000),
	).Sizes(), "long.go: 601 lines, at most 600", "long_test.go: 901 lines, at most 900")
}

func TestSkips(t *testing.T) {
	expect(t, module(t, "a_test.go", `package a

func TestA(t *testing.T) {
	t.Skip("no network here")
	t.Skipf("no %s here", "network")
	t.Skip()
	tb.SkipNow()
}
`).Skips(), "a_test.go:6: ", "a_test.go:7: ")
}

func TestGlobals(t *testing.T) {
	const src = `package a

import "os"

func init() {}

func (t) init() {}

var x = os.Getenv("HOME")

func f() {
	os.LookupEnv("HOME")
	os.Setenv("A", "b")
	os.Getpid()
}
`
	expect(t, module(t, "a.go", src, "a_test.go", src, "internal/xtest/a.go", src, "examples/get/a.go", src).Globals(),
		"a.go:5: no init", "os.Getenv", "os.LookupEnv", "os.Setenv")
}

func TestUnfinished(t *testing.T) {
	word := "TO" + "DO"
	got, err := module(t,
		"a.go", "package a\n\n// "+word+": later\n",
		"docs/a.md", "fine\n"+"FIX"+"ME\n",
		".ci/run", "# "+word+"\n",
		"testdata/a.md", word,
		"b.go", "package a\n\nvar to"+"do = 1\n",
	).Unfinished()
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got, ".ci/run:1: ", "a.go:3: ", "docs/a.md:2: ")
}

func TestChannels(t *testing.T) {
	const src = `package a

const n = 8

var (
	_ = make(chan int)
	_ = make(chan struct{}, 1)
	_ = make(chan int, 0)
	_ = make([]chan int, 8)
	_ = make(map[string]int, 8)
	_ = make(chan int, 2)
	_ = make(<-chan int, n)
)
`
	expect(t, module(t, "stream/a.go", src, "stream/a_test.go", src, "internal/queue/a.go", src, "internal/xtest/a.go", src).Channels(),
		"stream/a.go:11: ", "stream/a.go:12: ")
}

func TestDrops(t *testing.T) {
	expect(t, module(t,
		"stream/a.go", `package a

func f(s *stats.Stage, reason string) {
	s.Drop("tested")
	s.Drop("elsewhere")
	s.Drop("never")
	s.Drop(reason)
	s.Drop("a", "b")
	p.tethers.Drop(id)
	tethers.Drop(id)
}
`,
		"stream/a_test.go", "package a\n\nvar _ = counter(\"tested\")\n",
		"route/a_test.go", "package a\n\nvar _ = counter(\"elsewhere\")\n",
	).Drops(), `names the drop "elsewhere"`, `names the drop "never"`, "must be a string literal")
}

func TestTestCommand(t *testing.T) {
	const (
		readme = "# Anchor\n\n```sh\n# try it\ngo run ./examples/quickstart\ngo test -race -timeout 20m ./...\n```\n"
		script = "command=$(grep -m 1 '^go test ' README.md)\n"
	)
	got, err := TestCommand(tree("README.md", readme, ".ci/run", script))
	if err != nil || got != "go test -race -timeout 20m ./..." {
		t.Errorf("TestCommand = %q, %v", got, err)
	}
	for name, test := range map[string]struct{ readme, script, want string }{
		"no quickstart":   {strings.Replace(readme, "quickstart", "ping", 1), script, "first command"},
		"no sh block":     {strings.Replace(readme, "```sh", "```go", 1), script, "first command"},
		"not all":         {strings.Replace(readme, "./...\n", "./identity\n", 1), script, "not a go test"},
		"more beside it":  {strings.Replace(readme, "./...\n", "./... | tail\n", 1), script, "not a go test"},
		"no race":         {strings.Replace(readme, " -race", "", 1), script, "lacks -race"},
		"no timeout":      {strings.Replace(readme, " -timeout 20m", "", 1), script, "lacks -timeout"},
		"two commands":    {strings.Replace(readme, "./...\n", "./...\ngo test ./identity\n", 1), script, "two commands"},
		"script differs":  {readme, "go vet\n", "does not take"},
		"script has more": {readme, script + "go test -short ./...\n", "of its own"},
	} {
		if _, err := TestCommand(tree("README.md", test.readme, ".ci/run", test.script)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
	if _, err := TestCommand(tree(".ci/run", script)); err == nil {
		t.Error("no README: no error")
	}
}

func TestLoad(t *testing.T) {
	m := module(t,
		"a.go", "package a\n",
		"sub/b.go", "package b\n",
		"testdata/c.go", "not Go at all",
		".hidden/d.go", "not Go at all",
		"_off/e.go", "not Go at all",
	)
	var got []string
	for _, f := range m.Files {
		got = append(got, f.Path)
	}
	if s := strings.Join(got, " "); s != "a.go sub/b.go" {
		t.Errorf("loaded %s", s)
	}
	if _, err := Load(tree("a.go", "not Go at all")); err == nil {
		t.Error("a file that is not Go: no error")
	}
}

func TestHelpsTests(t *testing.T) {
	for dir, want := range map[string]bool{
		"internal/tuntest":              true,
		"examples/internal/exampletest": true,
		"internal/queue":                false,
		"examples/speedtest":            false,
		".":                             false,
	} {
		if got := helpsTests(dir); got != want {
			t.Errorf("helpsTests(%s) = %v", dir, got)
		}
	}
}
