package identity

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var (
	update = flag.Bool("update", false, "write the golden files and the fuzz seeds anew")
	long   = flag.Bool("long", false, "run tests in their full form")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
