// Package choosing runs the real proxy with the upstreams that docs/choosing.md describes, once with the defaults and once with what
// the page recommends. It compares the results, and records them in the page.
package choosing

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
