// Package listeners tests the listeners of the proxy: own listeners of services, Unix sockets, and sockets passed by systemd.
package listeners

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
