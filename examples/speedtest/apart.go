package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// measureApart measures a contender in a process of its own, this program once more, so that
// one does not leave its memory to the next. Of the options it passes on those that have a flag.
func measureApart(ctx context.Context, c contender, o options) (result, error) {
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(ctx, self, "-only", c.name, "-json", "-t", o.duration.String(), "-P", strconv.Itoa(o.streams))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return result{}, context.Cause(ctx)
	case err != nil && stderr.Len() > 0:
		return result{}, errors.New(strings.TrimPrefix(strings.TrimSpace(stderr.String()), "speedtest: "+c.name+": "))
	case err != nil:
		return result{}, err
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		return result{}, fmt.Errorf("its process printed %q: %w", out, err)
	}
	return r, nil
}
