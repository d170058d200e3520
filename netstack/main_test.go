//go:build !js

package netstack

import (
	"testing"

	"go.uber.org/goleak"
)

// The leak check is not built for js: there the runtime's own event goroutine counts as one.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
