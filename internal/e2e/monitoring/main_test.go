// Package monitoring tests metrics, alerts, dashboard and runbook with Prometheus, the export of OpenTelemetry data to a
// collector, and the access log.
package monitoring

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
