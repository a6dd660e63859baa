// Package attack tests that the proxy withstands malicious or faulty clients and upstreams: request smuggling, spoofed
// fields, floods, slow clients, log injection and information disclosure.
package attack

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
