package routes_test

import (
	"reflect"
	"strings"
	"testing"

	"cbproxy/routes"
)

const withRouteFile = `
routes:
  rag_service:
    upstream: http://127.0.0.1:8001
    timeout: 20s
    retry: {backoff: 100ms, max_backoff: 500ms}
    breaker: {fail_max: 7}
  vms_service: {upstream: http://127.0.0.1:8002}
fallbacks:
  other: {try: [static], static: {body: {a: 1}}}
`

// withRoute parses withRouteFile and changes keys of rag_service.
func withRoute(t *testing.T, keys string, environ ...string) (before, after *routes.Config, names []string, err error) {
	t.Helper()
	l := loader(environ...)
	before, err = l.Parse([]byte(withRouteFile))
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Parse([]byte(withRouteFile))
	if err != nil {
		t.Fatal(err)
	}
	after, names, err = l.WithRoute(before, "rag_service", []byte(keys))
	if changes := before.Diff(again); len(changes) > 0 {
		t.Errorf("%s: the configuration itself has changed: %+v", keys, changes)
	}
	return before, after, names, err
}

func TestWithRouteChangesKeys(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		keys  string
		names []string
		want  []string // changed keys, with their new values
	}{
		{`{"breaker.fail_max": 10, "timeout": "5s"}`, []string{"breaker.fail_max", "timeout"}, []string{`timeout "5s"`, "breaker.fail_max 10"}},
		{`{"timeout": 20}`, []string{"timeout"}, nil},
		{`{"breaker": {"fail_max": 2, "recovery_backoff.jitter": 0}, "breaker.window": "45s"}`, []string{"breaker.fail_max", "breaker.recovery_backoff.jitter", "breaker.window"},
			[]string{"breaker.fail_max 2", `breaker.window "45s"`, "breaker.recovery_backoff.jitter 0"}},
		{"retry.attempts: 2\nretry: {max_backoff: 2s}", []string{"retry.attempts", "retry.max_backoff"}, []string{"retry.attempts 2", `retry.max_backoff "2s"`}},
		{`{"fallback_enabled": false, "priority": 3, "max_in_flight": 9}`, []string{"fallback_enabled", "max_in_flight", "priority"},
			[]string{"priority 3", "max_in_flight 9", "fallback_enabled false"}},
		{`{"balance.policy": "round_robin", "balance": {"eject": {"fail_max": 0}}, "attempt_timeout": 2}`, []string{"attempt_timeout", "balance.eject.fail_max", "balance.policy"},
			[]string{`balance.policy "round_robin"`, "balance.eject.fail_max 0", `attempt_timeout "2s"`}},
		{`{"hedge.after": "1s", "stream": {"first_event_timeout": "3s"}, "breaker.by.header": "X-Tenant", "breaker.probe": {"path": "/healthz", "always": true}}`,
			[]string{"breaker.by.header", "breaker.probe.always", "breaker.probe.path", "hedge.after", "stream.first_event_timeout"},
			[]string{`stream.first_event_timeout "3s"`, `hedge.after "1s"`, `breaker.probe.path "/healthz"`, "breaker.probe.always true", `breaker.by.header "X-Tenant"`}},
		{`{"max_in_flight": "auto"}`, []string{"max_in_flight"}, []string{`max_in_flight "auto"`}},
		{`{"breaker.algorithm": "steps", "breaker.steps.steps": 5}`, []string{"breaker.algorithm", "breaker.steps.steps"},
			[]string{`breaker.algorithm "steps"`, `breaker.steps {"steps":5,"height":1}`}},
		{`{"breaker.failure_statuses": ["5xx", 429]}`, []string{"breaker.failure_statuses"}, []string{`breaker.failure_statuses ["429","5xx"]`}},
		{`{"fallback": "other"}`, []string{"fallback"}, []string{`fallback "other"`}},
	} {
		before, after, names, err := withRoute(t, test.keys, "CIRCUIT_BREAKER_RAG_FAIL_MAX=9")
		if err != nil {
			t.Errorf("%s: %v", test.keys, err)
			continue
		}
		var got []string
		for _, c := range after.Diff(before) {
			got = append(got, strings.TrimPrefix(c.Key, "routes.rag_service.")+" "+string(c.New))
		}
		if !reflect.DeepEqual(got, test.want) || !reflect.DeepEqual(names, test.names) {
			t.Errorf("%s changes %q of %q, want %q of %q", test.keys, got, names, test.want, test.names)
		}
		if len(after.Hash) != len(before.Hash) || after.Hash == before.Hash {
			t.Errorf("%s: hash %s, before %s", test.keys, after.Hash, before.Hash)
		}
	}
}

// The hash depends on the keys and their values, and not on their order and form.
func TestWithRouteHash(t *testing.T) {
	t.Parallel()
	hashes := map[string]string{}
	for _, keys := range []string{`{"timeout": "5s", "priority": 2}`, `{"priority": 2, "timeout": 5}`, `{"timeout": "6s", "priority": 2}`, `{"timeout": "5s"}`} {
		_, after, _, err := withRoute(t, keys)
		if err != nil {
			t.Fatal(err)
		}
		hashes[after.Hash] += keys
	}
	if len(hashes) != 3 {
		t.Errorf("%v", hashes)
	}
}

func TestWithRouteReportsEveryFault(t *testing.T) {
	t.Parallel()
	const allowed = "can be changed in the file only; the keys that can be set are attempt_timeout, balance, breaker, fallback, fallback_enabled, fallback_test, hedge, idle_timeout, "
	for _, test := range []struct {
		keys string
		want []string // path and the begin of the message, in order
	}{
		{`{"breaker.fail_max": -1, "timeout": "-1s", "retry.attempts": 99, "breaker.windw": "5s", "tiemout": "5s"}`, []string{
			"breaker.fail_max: must be from 0 to 1000000, got -1", `timeout: must be positive, got "-1s"`, "retry.attempts: must be from 0 to 20, got 99",
			`breaker.windw: unknown key, did you mean "window"?`, `tiemout: unknown key, did you mean "timeout"?`}},
		{`{"prefix": "/x", "listen": ":1", "upstream": "http://127.0.0.1:1", "tls.ca_file": "x"}`, []string{
			"prefix: " + allowed, "listen: " + allowed, "upstream: " + allowed, "tls: " + allowed}},
		{`{"retry.backoff": "1s"}`, []string{"retry.max_backoff: must be backoff (1s) or more, got 500ms"}},
		{`{"breaker.probe": {"always": true}}`, []string{"breaker.probe.always: must be false unless breaker.probe.path or breaker.probe.grpc says what is sent, got true"}},
		{`{"breaker.probe.grpc": true}`, []string{"breaker.probe.grpc: must be false unless each upstream is an h2c or https URL, because gRPC needs HTTP/2, got true with http://127.0.0.1:8001"}},
		{`{"fallback": "none"}`, []string{"fallback: must be the name of a fallback ("}},
		{`{"timeout": "5s", "timeout": "6s"}`, []string{"timeout: duplicate key"}},
		{`{"breaker.fail_max": 3, "breaker": {"fail_max": 4}}`, []string{"breaker.fail_max: is set twice"}},
		{`{"breaker": 3, "breaker.fail_max": 4}`, []string{"breaker: must be a mapping, got 3", "breaker.fail_max: is set twice"}},
		{`{"retry": {}}`, []string{"retry: must have at least one key"}},
		{`{"timeout": null, "fallback_enabled": "yes", "priority": 1.5}`, []string{"timeout: must be a duration", "fallback_enabled: must be true or false", "priority: must be a whole number"}},
		{`{"timeout": "${HOME}"}`, []string{"timeout: "}},
		{`{"timeout.x": 1}`, []string{"timeout: must be a duration"}},
		{`{"": 1, "breaker..x": 1}`, []string{`: unknown key, must be one of`, `: unknown key, must be one of`}},
		{`{"breaker.algorithm": "magic"}`, []string{"breaker.algorithm: must be the name of an algorithm"}},
		{`[1]`, []string{"file: must be a mapping"}},
	} {
		_, after, _, err := withRoute(t, test.keys)
		faults, ok := err.(routes.Faults)
		if !ok || after != nil || len(faults) != len(test.want) {
			t.Errorf("%s: got %v, want %q", test.keys, err, test.want)
			continue
		}
		for i, f := range faults {
			if got := f.Path + ": " + f.Message; !strings.Contains(got, test.want[i]) {
				t.Errorf("%s: fault %d is %s, want %s", test.keys, i, got, test.want[i])
			}
		}
	}
}

func TestRouteValue(t *testing.T) {
	t.Parallel()
	before, _, _, err := withRoute(t, `{"timeout": 1}`)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"timeout": `"20s"`, "breaker.fail_max": "7", "retry": `{"attempts":0,`, "breaker.steps.steps": "", "none": "", "timeout.x": "", "breaker.failure_statuses": `["5xx"]`,
	} {
		if got := string(before.Routes["rag_service"].Value(key)); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}
