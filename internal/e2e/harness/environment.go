package harness

import (
	"slices"
	"strings"
)

// WithoutTelemetry removes the OpenTelemetry variables from environment, which it modifies.
func WithoutTelemetry(environment []string) []string {
	return slices.DeleteFunc(environment, func(v string) bool { return strings.HasPrefix(v, "OTEL_") })
}

// WithoutConfiguration removes the variables that configure cbproxy or the Go command from environment, which it
// modifies.
func WithoutConfiguration(environment []string) []string {
	return slices.DeleteFunc(WithoutTelemetry(environment), func(v string) bool {
		for _, prefix := range []string{"CBPROXY_", "CIRCUIT_BREAKER_", "REDIS_", "GOFLAGS="} {
			if strings.HasPrefix(v, prefix) {
				return true
			}
		}
		return false
	})
}
