// Package monitoring tests metrics, alerts, access log and telemetry with real Prometheus and OpenTelemetry programs.
package monitoring

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
