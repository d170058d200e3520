package stream

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var (
	update = flag.Bool("update", false, "write the golden vectors in testdata anew")
	long   = flag.Bool("long", false, "run the full forms of tests that are long")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
