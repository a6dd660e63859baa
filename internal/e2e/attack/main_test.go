// Package attack tests that hostile clients and upstreams harm neither the proxy nor others.
package attack

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
