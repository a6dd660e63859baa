package docs

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

func securityPage(t *testing.T) string {
	t.Helper()
	content := harness.ReadFile(t, filepath.Join(harness.Repository, "SECURITY.md"))
	return string(content)
}

// TestRedisUserNeedsOnlyDocumentedRights checks that a fleet shares its state and its queue with only the
// rights that SECURITY.md gives to the Redis user.
func TestRedisUserNeedsOnlyDocumentedRights(t *testing.T) {
	t.Parallel()
	rule := regexp.MustCompile(`(?m)^ACL SETUSER cbproxy on >… (.*)$`).FindStringSubmatch(securityPage(t))
	if rule == nil {
		t.Fatal("SECURITY.md has no ACL rule for the Redis user")
	}
	server := redistest.Start(t)
	args := []any{"ACL", "SETUSER", "cbproxy", "on", ">secret"}
	for word := range strings.FieldsSeq(rule[1]) {
		args = append(args, word)
	}
	if err := server.Client().Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	fleet := harness.StartFleet(t, 2, harness.Options{Config: `redis: {url: "redis://cbproxy:secret@` + server.Address() + `"}` + `
defaults: {breaker: {fail_max: 1}, fallback: f}
routes: {svc: {prefix: /svc, upstream: "http://127.0.0.1:1"}}
fallbacks: {f: {try: [queue], queue: {}}}
`})
	res, err := http.Post(fleet[0].URL+"/svc/x", "text/plain", strings.NewReader("x"))
	if r := harness.ReadResponse(t, res, err); r.Status != http.StatusAccepted {
		t.Fatalf("status %d: %s", r.Status, r.Body)
	}
	harness.AwaitState(t, fleet, "open")
	harness.Eventually(t, "the queued request is copied to Redis", func() bool {
		return server.Client().XLen(t.Context(), "cbproxy_queue:{svc}").Val() == 1
	})
	harness.Eventually(t, "the history is shared", func() bool { return len(fleet[1].History("svc")) > 1 })
	denied, err := server.Client().Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(denied) > 0 {
		t.Errorf("Redis has denied %v, %v", denied, err)
	}
}
