package override_test

import (
	"encoding/json"
	"testing"

	"cbproxy/internal/override"
)

func TestParseArguments(t *testing.T) {
	t.Parallel()
	got, err := override.ParseArguments([]string{
		"breaker.fail_max=10", "timeout=5s", "breaker.failure_ratio=0.5", "fallback_enabled=false", "breaker.probe.path=", "fallback=\"10\"",
		"breaker.failure_statuses=[5xx, 429]", `breaker.sse_error_events=["a","b"]`, "breaker.failure_when=status == 200 && header('X') != ''",
		"a=010", "b=[]", "c=[1", "d=null",
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"a":"010","b":[],"breaker.fail_max":10,"breaker.failure_ratio":0.5,"breaker.failure_statuses":["5xx",429],` +
		`"breaker.failure_when":"status == 200 \u0026\u0026 header('X') != ''","breaker.probe.path":"","breaker.sse_error_events":["a","b"],` +
		`"c":"[1","d":null,"fallback":"10","fallback_enabled":false,"timeout":"5s"}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	for _, args := range [][]string{{"timeout"}, {"=5s"}, {"timeout=5s", "timeout=5s"}, {"timeout=5s", "off"}} {
		if got, err := override.ParseArguments(args); err == nil {
			t.Errorf("%q: %s", args, got)
		}
	}
}
