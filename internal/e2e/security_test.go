package e2e

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cbproxy/internal/redistest"
)

// TestSecurityPageNamesRealTests checks that each test named in SECURITY.md exists.
func TestSecurityPageNamesRealTests(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(repository, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(content), -1) {
			there[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(securityPage(t), -1)
	if len(named) < 40 {
		t.Errorf("SECURITY.md names only %d tests", len(named))
	}
	for _, m := range named {
		if !there[m[1]] {
			t.Errorf("SECURITY.md names %s, which is no test", m[1])
		}
	}
}

func securityPage(t *testing.T) string {
	t.Helper()
	content := contentOf(t, filepath.Join(repository, "SECURITY.md"))
	return string(content)
}

// TestRedisUserNeedsOnlyDocumentedRights checks that a fleet shares its state and its queue with only the
// rights that SECURITY.md gives to the Redis user.
func TestRedisUserNeedsOnlyDocumentedRights(t *testing.T) {
	t.Parallel()
	rule := regexp.MustCompile(`(?m)^ACL SETUSER cbproxy on >… (.*)$`).FindStringSubmatch(securityPage(t))
	if rule == nil {
		t.Fatal("SECURITY.md has no rule for Redis' user")
	}
	server := redistest.Start(t)
	args := []any{"ACL", "SETUSER", "cbproxy", "on", ">secret"}
	for word := range strings.FieldsSeq(rule[1]) {
		args = append(args, word)
	}
	if err := server.Client().Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	fleet := startFleet(t, 2, options{config: `redis: {url: "redis://cbproxy:secret@` + server.Address() + `"}` + `
defaults: {breaker: {fail_max: 1}, fallback: f}
routes: {svc: {prefix: /svc, upstream: "http://127.0.0.1:1"}}
fallbacks: {f: {try: [queue], queue: {}}}
`})
	res, err := http.Post(fleet[0].data+"/svc/x", "text/plain", strings.NewReader("x"))
	if r := read(t, res, err); r.status != http.StatusAccepted {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	awaitState(t, fleet, "open")
	eventually(t, "the request has a copy", func() bool {
		return server.Client().XLen(t.Context(), "cbproxy_queue:{svc}").Val() == 1
	})
	eventually(t, "the history is shared", func() bool { return len(fleet[1].history("svc")) > 1 })
	refused, err := server.Client().Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(refused) > 0 {
		t.Errorf("Redis refused %v, %v", refused, err)
	}
}

// TestResponsesDoNotLeakUpstreamAddresses checks that an error response without a fallback does not contain
// the upstream's address.
func TestResponsesDoNotLeakUpstreamAddresses(t *testing.T) {
	t.Parallel()
	dead := freeAddress(t)
	p := startProxy(t, options{config: `defaults: {fallback_enabled: false, breaker: {fail_max: 1}}
routes: {svc: {prefix: /svc, upstream: "http://` + dead + `/hidden"}}
`})
	_, port, _ := strings.Cut(dead, ":")
	for _, status := range []int{http.StatusBadGateway, http.StatusServiceUnavailable} {
		res, err := http.Get(p.data + "/svc/x")
		r := read(t, res, err)
		var exposed strings.Builder
		_ = r.header.Write(&exposed)
		exposed.WriteString(r.body)
		if r.status != status || strings.Contains(exposed.String(), port) || strings.Contains(exposed.String(), "hidden") {
			t.Errorf("status %d, exposed %s", r.status, exposed.String())
		}
	}
}

// TestMetricsContainNoRequestData checks that clients cannot create metric series.
func TestMetricsContainNoRequestData(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	p := startProxy(t, options{config: `routes: {svc: {prefix: /svc, upstream: "` + u.url() + `"}}` + "\n"})
	const marker = "evilmarker"
	for _, path := range []string{"/svc/", "/elsewhere/", "/svc/../"} {
		r, err := http.NewRequest(strings.ToUpper(marker), p.data+path+marker+"?"+marker, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = marker
		for _, name := range []string{"User-Agent", "X-Circuit-Breaker-Service", "X-Fallback", "Content-Type", marker} {
			r.Header.Set(name, marker)
		}
		res, err := http.DefaultClient.Do(r)
		_ = read(t, res, err)
	}
	if metrics := p.metrics(); strings.Contains(strings.ToLower(metrics), marker) || !strings.Contains(metrics, `service="svc"`) {
		t.Errorf("the metrics contain request data: %s", metrics)
	}
}
