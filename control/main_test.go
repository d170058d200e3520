package control_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var long = flag.Bool("long", false, "run tests in their full form")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
