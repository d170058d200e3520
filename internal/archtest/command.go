package archtest

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// quickstart is the first command that README gives.
const quickstart = "go run ./examples/quickstart"

// Commands returns the commands that README gives, the lines of its sh blocks, in order.
func Commands(fsys fs.FS) ([]string, error) {
	readme, err := fs.ReadFile(fsys, "README.md")
	if err != nil {
		return nil, err
	}
	var out []string
	inside := false
	for line := range strings.Lines(string(readme)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh"
		case inside && line != "" && !strings.HasPrefix(line, "#"):
			out = append(out, line)
		}
	}
	return out, nil
}

// TestCommand returns README's test command, the one of the module. README's first command
// starts the quickstart, its second is this one, there is no third that tests, and .ci/run
// reads it from README.
func TestCommand(fsys fs.FS) (string, error) {
	commands, err := Commands(fsys)
	if err != nil {
		return "", err
	}
	if len(commands) < 2 || commands[0] != quickstart {
		return "", fmt.Errorf("README.md: the first command of its sh blocks is not %q, with the test command after it", quickstart)
	}
	command := commands[1]
	if !regexp.MustCompile(`^go test( -[a-z]+(=\S+)?| [0-9]+[ms])* \./\.\.\.$`).MatchString(command) {
		return "", fmt.Errorf("README.md: the second command is %q, not a go test of all packages", command)
	}
	for _, flag := range []string{"-race", "-timeout"} {
		if !slices.ContainsFunc(strings.Fields(command), func(s string) bool { return s == flag || strings.HasPrefix(s, flag+"=") }) {
			return "", fmt.Errorf("README.md: %q lacks %s", command, flag)
		}
	}
	if slices.ContainsFunc(commands[2:], func(c string) bool { return strings.HasPrefix(c, "go test") }) {
		return "", errors.New("README.md: two commands test; .ci/run takes the first")
	}
	script, err := fs.ReadFile(fsys, ".ci/run")
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(script), `grep -m 1 '^go test ' README.md`) {
		return "", errors.New(".ci/run does not take the test command from README.md")
	}
	if regexp.MustCompile(`go test .*\./\.\.\.`).Match(script) {
		return "", errors.New(".ci/run has a test command of its own")
	}
	return command, nil
}
