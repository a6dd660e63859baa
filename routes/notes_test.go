package routes_test

import (
	"reflect"
	"testing"
)

// Keys that have no effect are remarks. Keys that have one are not.
func TestNotesOfRoutes(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string][]string{
		"": nil,
		"attempt_timeout: 5s, hedge: {after: 4999ms}, stream: {first_event_timeout: 60s}": nil,
		"attempt_timeout: 10s":                                              {"attempt_timeout (10s) has no effect, it is not below timeout (10s): rag_service"},
		"hedge: {after: 1m}":                                                {"hedge.after (1m) has no effect, it is not below timeout (10s): rag_service"},
		"hedge: {after: 2}, attempt_timeout: 2":                             {"hedge.after (2s) has no effect, it is not below attempt_timeout (2s): rag_service"},
		"hedge: {after: 2}, retry: {methods: []}":                           {"hedge.after has no effect, retry.methods is empty: rag_service"},
		"hedge: {after: 2}, retry: {methods: [], idempotency_key: true}":    nil,
		"breaker: {by: {header: authorization}}":                            {"the values of breaker.by.header (authorization) are secrets, which the admin API shows: rag_service"},
		"breaker: {by: {header: X-Tenant}}":                                 nil,
		"retry: {methods: []}":                                              nil,
		"stream: {first_event_timeout: 61s}":                                {"stream.first_event_timeout (1m1s) applies only to streams with comments or pings, idle_timeout (1m) ends the others first: rag_service"},
		"upstream: h2c://a, breaker: {probe: {path: /healthz, grpc: true}}": {"breaker.probe.path has no effect with breaker.probe.grpc: rag_service"},
		"attempt_timeout: 11s, hedge: {after: 12s}": {
			"attempt_timeout (11s) has no effect, it is not below timeout (10s): rag_service",
			"hedge.after (12s) has no effect, it is not below timeout (10s): rag_service",
		},
	} {
		c := parse(t, "defaults: {upstream: http://a, timeout: 10s}\nroutes: {rag_service: {"+keys+"}}\n")
		if got := c.Notes(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, want %q", keys, got, want)
		}
	}
}

func TestNotesNameAllRoutes(t *testing.T) {
	t.Parallel()
	c := parse(t, `
defaults: {upstream: http://a, timeout: 10s, attempt_timeout: 5s}
routes:
  vms_service: {timeout: 5s}
  rag_service: {timeout: 5s}
  other: {prefix: /other}
  short: {prefix: /short, timeout: 4s}
`)
	want := []string{
		"attempt_timeout (5s) has no effect, it is not below timeout (4s): short",
		"attempt_timeout (5s) has no effect, it is not below timeout (5s): rag_service, vms_service",
	}
	if got := c.Notes(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
