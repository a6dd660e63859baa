package routes_test

import (
	"reflect"
	"strings"
	"testing"

	"cbproxy/routes"
)

const withBreakerFile = `
routes:
  rag_service:
    upstream: http://127.0.0.1:8001
    breaker: {fail_max: 7, min_requests: 4, recovery_backoff: {multiplier: 3}}
  vms_service:
    upstream: http://127.0.0.1:8002
    breaker: {algorithm: steps, steps: {steps: 5, height: 2}}
`

func TestWithBreakerChangesNothingElse(t *testing.T) {
	l := loader()
	config, err := l.Parse([]byte(withBreakerFile))
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Parse([]byte(withBreakerFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		service, keys string
		want          []string // changed keys, with their new values
	}{
		{"rag_service", `{}`, nil},
		{"rag_service", `{"fail_max": 7}`, nil},
		{"rag_service", `{"fail_max": 3, "recovery_backoff": {"max": "2m"}}`, []string{"fail_max 3", `recovery_backoff.max "2m"`}},
		{"rag_service", "window: 45s\nfailure_ratio: 0.25", []string{"failure_ratio 0.25", `window "45s"`}},
		{"rag_service", `{"algorithm": "steps"}`, []string{`algorithm "steps"`, `steps {"steps":3,"height":1}`}},
		{"vms_service", `{"steps": {"height": 1.5}}`, []string{"steps.height 1.5"}},
		{"vms_service", `{"algorithm": "ratio"}`, []string{`algorithm "ratio"`, "steps "}},
	} {
		next, err := l.WithBreaker(config, test.service, []byte(test.keys))
		if err != nil {
			t.Errorf("%s: %v", test.keys, err)
			continue
		}
		var got []string
		for _, c := range next.Diff(config) {
			got = append(got, strings.TrimPrefix(c.Key, "routes."+test.service+".breaker.")+" "+string(c.New))
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s changes %q, want %q", test.keys, got, test.want)
		}
	}
	if changes := config.Diff(again); len(changes) > 0 {
		t.Errorf("the configuration itself has changed: %+v", changes)
	}
}

func TestWithBreakerReportsEveryFault(t *testing.T) {
	l := loader()
	config, err := l.Parse([]byte(withBreakerFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ service, keys, want string }{
		{"rag_service", `{"fail_max": -1, "windw": "5s"}`, "breaker:1:2: breaker.fail_max: must be from 0 to 1000000, got -1\nbreaker:1:18: breaker.windw: unknown key, did you mean \"window\"?"},
		{"rag_service", `[1]`, "breaker:1:1: file: must be a mapping, got a list"},
		{"rag_service", `{`, "must be YAML"},
		{"rag_service", `{"algorithm": "magic"}`, `breaker:1:2: breaker.algorithm: must be the name of an algorithm (ratio, steps), got "magic"`},
		{"rag_service", `{"mode": "${MODE}"}`, "breaker.mode: "},
		{"vms_service", `{"min_requests": 4}`, "breaker.steps"},
	} {
		next, err := l.WithBreaker(config, test.service, []byte(test.keys))
		if faults, ok := err.(routes.Faults); !ok || next != nil || !strings.Contains(faults.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.keys, err, test.want)
		}
	}
	if got := config.Routes["rag_service"].Breaker; got.FailMax != 7 {
		t.Errorf("the configuration itself has changed: %+v", got)
	}
}
