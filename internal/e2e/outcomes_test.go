package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// recordedCall is a line of the record of calls.
type recordedCall struct {
	Time      time.Time `json:"time"`
	Service   string    `json:"service"`
	Outcome   string    `json:"outcome"`
	Status    int       `json:"status"`
	ErrorType string    `json:"error_type"`
	Duration  float64   `json:"duration_ms"`
}

// recordedCalls returns the record of a proxy.
func recordedCalls(p *harness.Proxy, query string) (calls []recordedCall) {
	p.T.Helper()
	r := p.AdminRequest("GET", "/api/v1/outcomes"+query, "")
	if r.Status != http.StatusOK || r.Header.Get("Content-Type") != "application/x-ndjson" {
		p.T.Fatalf("%+v", r)
	}
	for line := range strings.Lines(r.Body) {
		var c recordedCall
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil || c.Time.IsZero() {
			p.T.Fatalf("%s: %v", line, err)
		}
		calls = append(calls, c)
	}
	if !slices.IsSortedFunc(calls, func(a, b recordedCall) int { return a.Time.Compare(b.Time) }) {
		p.T.Errorf("the lines are not in the order of their time: %+v", calls)
	}
	return calls
}

// summary returns the calls without times and durations.
func summary(calls []recordedCall) (all []string) {
	for _, c := range calls {
		all = append(all, strings.TrimSpace(fmt.Sprint(c.Service, " ", c.Outcome, " ", c.Status, " ", c.ErrorType)))
	}
	return all
}

// startStatusUpstream starts an upstream whose response has the status that is the path; with /cut the connection ends instead.
func startStatusUpstream(t *testing.T) *harness.RawUpstream {
	return harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, _ *bufio.Reader) bool {
		if q.URL.Path == "/cut" {
			return false
		}
		_, err := io.WriteString(c, "HTTP/1.1 "+q.URL.Path[1:]+" X\r\nContent-Length: 2\r\n\r\n{}")
		return err == nil
	})
}

func TestCallsAreRecorded(t *testing.T) {
	t.Parallel()
	u := startStatusUpstream(t)
	config := func(more string) string {
		return fmt.Sprintf(`%sroutes:
  a: {prefix: /a, upstream: %q, breaker: {fail_max: 3, recovery_timeout: 1h, ignore_statuses: [501]}}
  b: {prefix: /b, upstream: %q, breaker: {mode: "off"}}
`, more, u.URL(), u.URL())
	}
	p := harness.StartProxy(t, harness.Options{Config: config("")})
	begin := time.Now()
	for _, path := range []string{"/a/200", "/a/404", "/a/501", "/b/500", "/a/503", "/a/cut", "/a/500", "/a/200", "/b/200"} {
		p.Get(path)
	}
	want := []string{
		"a success 200", "a success 404", "a cancelled 501", "b failure 500 status", "a failure 503 status", "a failure 0 reset",
		"a failure 500 status", "a rejected 0", "b success 200",
	}
	all := recordedCalls(p, "")
	if got := summary(all); !slices.Equal(got, want) {
		t.Fatalf("recorded\n%s", strings.Join(got, "\n"))
	}
	for _, c := range all {
		if made := c.Outcome == "success" || c.Outcome == "failure"; made != (c.Duration > 0) || c.Time.Before(begin.Add(-time.Millisecond)) {
			t.Errorf("%+v, began at %v", c, begin)
		}
	}
	if got := summary(recordedCalls(p, "?service=b")); !slices.Equal(got, []string{want[3], want[8]}) {
		t.Errorf("the record of b: %v", got)
	}
	span := "?since=" + all[2].Time.Format(time.RFC3339Nano) + "&until=" + all[4].Time.Format(time.RFC3339Nano)
	if got := summary(recordedCalls(p, span)); !slices.Equal(got, want[2:5]) {
		t.Errorf("the record of a span of time: %v", got)
	}
	if got := recordedCalls(p, "?until=1h"); len(got) != 0 {
		t.Errorf("the record up to an hour ago: %v", got)
	}
	for query, status := range map[string]int{"?service=c": 404, "?since=yesterday": 400, "?since=1h&until=-1h": 400} {
		if r := p.AdminRequest("GET", "/api/v1/outcomes"+query, ""); r.Status != status {
			t.Errorf("%s: %+v", query, r)
		}
	}
	p.ReplaceConfig(config("outcomes: {enabled: false}\n"))
	harness.Eventually(t, "nothing is recorded any more", func() bool { return len(recordedCalls(p, "")) == 0 })
	p.Get("/b/200")
	p.ReplaceConfig(config("outcomes: {max_bytes: 128KiB}\n"))
	harness.Eventually(t, "the record is back", func() bool { return len(recordedCalls(p, "")) > 0 })
	if got := summary(recordedCalls(p, "")); !slices.Equal(got, want) {
		t.Errorf("after it was disabled:\n%s", strings.Join(got, "\n"))
	}
}

// A killed process loses the calls of the last second at most. A damaged record is set aside.
func TestRecordedCallsSurviveKill(t *testing.T) {
	t.Parallel()
	u := startStatusUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {a: {prefix: /a, upstream: %q}}\n", u.URL())})
	ring := filepath.Join(p.DataDir, "outcomes", "a.ring")
	content := func() string { return string(harness.ReadFile(t, ring)) }
	for range 10 {
		p.Get("/a/200")
	}
	empty := content()
	harness.Eventually(t, "the calls are stored", func() bool { return len(content()) > len(empty) || len(content()) > 4096 })
	p.Get("/a/404")
	before := content()
	harness.Eventually(t, "the next call is stored", func() bool { return content() != before })
	p.Kill()
	p.Start()
	if got := recordedCalls(p, ""); len(got) != 11 || got[10].Status != 404 {
		t.Errorf("after kill -9: %v", summary(got))
	}
	p.Get("/a/200")
	p.Signal(syscall.SIGTERM)
	p.Wait()
	p.Start()
	if got := recordedCalls(p, ""); len(got) != 12 {
		t.Errorf("after SIGTERM: %v", summary(got))
	}
	p.Kill()
	damaged := []byte(content())
	damaged[4096+100] ^= 1
	if err := os.WriteFile(ring, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Start()
	p.Get("/a/200")
	if got := recordedCalls(p, ""); len(got) != 1 {
		t.Errorf("after damage: %v", summary(got))
	}
	if aside, _ := filepath.Glob(ring + ".set-aside-*"); len(aside) != 1 || !strings.Contains(p.Log.String(), aside[0]) {
		t.Errorf("set aside: %v", aside)
	}
}

func TestCallsAreRecordedInMemoryWithoutDataDir(t *testing.T) {
	t.Parallel()
	u := startStatusUpstream(t)
	p := harness.StartProxy(t, harness.Options{NoDataDir: true, Config: fmt.Sprintf("routes: {a: {prefix: /a, upstream: %q}}\n", u.URL())})
	for range 300 {
		p.Get("/a/200")
	}
	if got := recordedCalls(p, "?since=1h"); len(got) != 300 {
		t.Errorf("%d calls", len(got))
	}
}
