package control

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// Flags of this package's tests.
var (
	Update = flag.Bool("update", false, "write the golden vectors in testdata anew")
	Long   = flag.Bool("long", false, "run tests in their full form")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
