package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// check runs `cbproxy check` and returns its output and exit status.
func check(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetArgs(append([]string{"check"}, args...))
	status := execute(root)
	return out.String(), status
}

func TestCheckDiffDescribesChanges(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := write("old.yaml", `
routes:
  a: {prefix: /a, upstream: "http://h:1", breaker: {mode: shadow}}
  b: {prefix: /b, upstream: "http://h:2"}
  c: {prefix: /c, upstream: "http://h:3"}
`)
	next := write("next.yaml", `
listen: 127.0.0.1:1
defaults: {timeout: 5s}
routes:
  a: {prefix: /a, upstream: "http://h:1", breaker: {mode: enforce, fail_max: 0, failure_ratio: 0.25}, retry: {attempts: 2}}
  b: {prefix: /b, upstream: "http://h:9"}
  d: {prefix: [/d, /e], upstream: "http://h:4"}
`)
	got, status := check(t, "--diff", old, next)
	want := `listen: 127.0.0.1:8080 -> 127.0.0.1:1
    Needs a restart. Address of the data plane: host:port or unix:///path. HTTP/1.1 and h2c share the port.
routes.{a,b}.timeout: 30s -> 5s
    A request that takes longer than 5s is aborted and counts as a failure.
routes.a.retry.attempts: 0 -> 2
    A failed attempt is retried up to 2 times, within the retry budget.
routes.a.breaker.mode: shadow -> enforce
    The breaker rejects requests while it is open.
routes.a.breaker.fail_max: 5 -> 0
    Consecutive failures do not open the breaker.
routes.a.breaker.failure_ratio: 0 -> 0.25
    The breaker opens when 25 % of the calls in its window have failed.
routes.b.upstream: http://h:2 -> http://h:9
    New requests go to http://h:9; requests in flight finish at the old upstream. The breaker keeps its state and counts.
routes.c: removed
    Requests under /c are no longer routed to an upstream. Those that match no other prefix get 404.
routes.d: new
    Requests under /d and /e go to http://h:4, through a new breaker.

9 changes from OLD to NEXT; 1 of them needs a restart
`
	if got = strings.NewReplacer(old, "OLD", next, "NEXT").Replace(got); got != want || status != 0 {
		t.Errorf("status %d, got:\n%s", status, got)
	}
	if got, status := check(t, "--diff", old, old); got != old+" and "+old+" have the same effect\n" || status != 0 {
		t.Errorf("status %d: %s", status, got)
	}
	faulty := write("faulty.yaml", "routes: {a: {prefix: /a, upstream: nonsense}}\n")
	if got, status := check(t, "--diff", old, faulty); status != exitUsage || !strings.Contains(got, "faulty.yaml:1:") {
		t.Errorf("status %d: %s", status, got)
	}
	for _, args := range [][]string{{"--diff", old}, {"--diff", old, next, next}, {old, next}, {"--diff", "--config", old, old, next}} {
		if got, status := check(t, args...); status != exitUsage {
			t.Errorf("%v: status %d: %s", args, status, got)
		}
	}
}
