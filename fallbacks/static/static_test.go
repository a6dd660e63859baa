package static_test

import (
	"fmt"
	"net/http"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/fallbacks/static"
	"cbproxy/internal/events"
)

func TestStaticAnswer(t *testing.T) {
	chain := fallbacktest.NewChain(t, "static", &static.Options{
		Status: 203, Headers: map[string]string{"x-a": "b", "content-type": "text/x"}, Body: fallbacks.JSON(`{"a":1}`),
	}, fallbacktest.Env())
	a, _, err := chain.Answer(t.Context(), new(fallbacktest.Client), events.ReasonOpen)
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := chain.Constant(); !ok || name != "static" {
		t.Errorf("the constant strategy is %q, %v", name, ok)
	}
	want := http.Header{"X-A": {"b"}, "Content-Type": {"text/x"}, "Content-Length": {"7"}}
	if a.Status != 203 || string(a.Body) != `{"a":1}` || fmt.Sprint(a.Header) != fmt.Sprint(want) {
		t.Errorf("got %+v", a)
	}
}

func TestValidateReportsAllErrors(t *testing.T) {
	o := static.Options{Status: 200, Headers: map[string]string{
		"bad name": "x", "X-Ok": "new\nline", "x-fallback": "cache", "X-Circuit-Breaker-State": "closed", "X-Fine": "fine",
	}}
	faults := map[string]bool{}
	o.Validate(func(path, _ string) { faults[path] = true })
	for _, path := range []string{"body", "headers.bad name", "headers.X-Ok", "headers.x-fallback", "headers.X-Circuit-Breaker-State"} {
		if !faults[path] {
			t.Errorf("no error at %s", path)
		}
	}
	if len(faults) != 5 {
		t.Errorf("errors %v, want 5", faults)
	}
	none := static.Options{Status: http.StatusNoContent}
	none.Validate(func(path, message string) { t.Errorf("204 without a body: %s: %s", path, message) })
}
