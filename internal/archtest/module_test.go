package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const root = "../.."

// TestModule holds the whole module against every rule.
func TestModule(t *testing.T) {
	m, err := Load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Files) < 50 {
		t.Fatalf("only %d Go files found: this is not the module", len(m.Files))
	}
	unfinished, err := m.Unfinished()
	if err != nil {
		t.Fatal(err)
	}
	for name, problems := range map[string][]Problem{
		"imports":       m.Imports(),
		"package docs":  m.PackageDocs(),
		"exported docs": m.ExportedDocs(),
		"sizes":         m.Sizes(),
		"skips":         m.Skips(),
		"globals":       m.Globals(),
		"channels":      m.Channels(),
		"drops":         m.Drops(),
		"unfinished":    unfinished,
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range problems {
				t.Error(p)
			}
		})
	}
}

// TestCommandOfModule also asks .ci/run itself what it runs.
func TestCommandOfModule(t *testing.T) {
	want, err := TestCommand(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here to ask .ci/run which command it runs")
	}
	cmd := exec.Command(bash, filepath.Join(".ci", "run"), "command")
	cmd.Dir = root
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf(".ci/run command: %v", err)
	}
	if strings.TrimSpace(string(got)) != want {
		t.Errorf(".ci/run tests with %q, README with %q", got, want)
	}
}
