package routes_test

import (
	"reflect"
	"testing"
)

func TestRoutesDoNotShareLists(t *testing.T) {
	c := parse(t, `
defaults:
  retry: {methods: [GET, HEAD, PUT], statuses: [502, 503]}
  breaker: {grpc_failure_codes: [UNKNOWN, INTERNAL], sse_error_events: [error, failure]}
routes:
  first:
    prefix: /first
    upstream: http://first
    retry: {methods: [POST], statuses: [500]}
    breaker: {grpc_failure_codes: [ABORTED], sse_error_events: [oops]}
  second: {prefix: /second, upstream: http://second}
  rag_service: {upstream: http://rag}
`)
	for _, name := range []string{"second", "rag_service"} {
		r := c.Routes[name]
		got := []any{r.Retry.Methods, r.Retry.Statuses, r.Breaker.GRPCFailureCodes, r.Breaker.SSEErrorEvents}
		want := []any{[]string{"GET", "HEAD", "PUT"}, []int{502, 503}, []string{"UNKNOWN", "INTERNAL"}, []string{"error", "failure"}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if plain := parse(t, minimal).Routes["rag_service"]; len(plain.Retry.Methods) != 5 || len(plain.Breaker.GRPCFailureCodes) != 6 {
		t.Errorf("got %v and %v, want the defaults of a load of its own", plain.Retry.Methods, plain.Breaker.GRPCFailureCodes)
	}
}
