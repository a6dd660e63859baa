package e2e

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestDeadLetterIsRetriedOrDroppedByOperator checks that a permanent failure makes a dead letter, which
// does not block later requests and which an operator can retry or drop.
func TestDeadLetterIsRetriedOrDroppedByOperator(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "")})
	p.mustQueue("a", "bad-1", "b", "bad-2", "c")
	u.answer(rule{In: "bad", Status: 400})
	u.start()
	t.Cleanup(u.kill)
	u.awaitTaken("a", "b", "c")
	letters := p.dead(2)
	for i, l := range letters {
		if l.Cause != "refused" || l.LastError != "status 400" || l.Method != "POST" || l.Path != "/svc/bad-"+string(rune('1'+i)) ||
			l.Bytes != 5 || l.Attempts != 0 && l.Attempts > 9 || l.Service != "svc" || time.Since(l.Accepted) > time.Minute {
			t.Errorf("dead letter %+v", l)
		}
	}
	const base = "/api/v1/queue/"
	for _, c := range []struct {
		method, path, token string
		want                int
	}{
		{"POST", letters[0].ID + "/retry", "", 401},
		{"POST", letters[0].ID + "/retry", "wrong", 401},
		{"DELETE", letters[0].ID, "", 401},
		{"GET", letters[0].ID + "/retry", adminToken, 405},
		{"PUT", letters[0].ID, adminToken, 405},
		{"POST", "svc.999999/retry", adminToken, 404},
		{"POST", "nonsense/retry", adminToken, 404},
		{"DELETE", "svc.999999", adminToken, 404},
		{"DELETE", "other.1", adminToken, 404},
		{"DELETE", letters[0].ID + "x", adminToken, 404},
	} {
		if r := p.operate(c.method, base+c.path, c.token); r.status != c.want || r.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %+v, want %d", c.method, c.path, r, c.want)
		}
	}
	if r := p.operate("DELETE", base+letters[1].ID, adminToken); r.status != http.StatusOK || !strings.Contains(r.body, letters[1].ID) {
		t.Errorf("drop: %+v", r)
	}
	if r := p.operate("DELETE", base+letters[1].ID, adminToken); r.status != http.StatusNotFound {
		t.Errorf("drop again: %+v", r)
	}
	u.answer()
	if r := p.operate("POST", base+letters[0].ID+"/retry", adminToken); r.status != http.StatusOK || !strings.Contains(r.body, `"state":"waiting"`) {
		t.Errorf("retry: %+v", r)
	}
	u.awaitTaken("a", "b", "c", "bad-1")
	p.dead(0)
	keys := map[string]bool{}
	for _, q := range u.records() {
		if q.body == "bad-1" {
			keys[q.Header.Get("Idempotency-Key")] = true
		}
	}
	if len(keys) != 1 {
		t.Errorf("a dead letter's keys: %v", keys)
	}
}

func TestQueueListIsPaginated(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRouteWith(u.upstreamProcess, "fail_max: 1, recovery_timeout: 60", "")})
	p.mustQueue(numbered("m", 5)...)
	first := p.operate("GET", "/api/v1/queue?service=svc&state=waiting&limit=2", "")
	_, all := p.backlog()
	if len(all) != 5 || strings.Count(first.body, `"id"`) != 2 || !strings.Contains(first.body, `"more":true`) {
		t.Fatalf("%+v of %+v", first, all)
	}
	rest := p.operate("GET", "/api/v1/queue?service=svc&state=waiting&limit=3&after="+all[1].ID, "")
	if strings.Count(rest.body, `"id"`) != 3 || !strings.Contains(rest.body, all[4].ID) || !strings.Contains(rest.body, `"more":false`) {
		t.Errorf("%+v", rest)
	}
	for _, query := range []string{"limit=0", "limit=x", "limit=100000", "state=asleep", "service=none", "after=" + all[0].ID} {
		if r := p.operate("GET", "/api/v1/queue?"+query, ""); r.status != http.StatusBadRequest || r.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %+v", query, r)
		}
	}
	// A queued request can be dropped too, without an effect on the other requests.
	if r := p.operate("DELETE", "/api/v1/queue/"+all[2].ID, adminToken); r.status != http.StatusOK {
		t.Errorf("drop: %+v", r)
	}
	u.start()
	t.Cleanup(u.kill)
	forceTo(t, p, "half-open")
	u.awaitTaken("m00", "m01", "m03", "m04")
}

func TestRequestInDeliveryCannotBeDropped(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "")})
	forceTo(t, p, "open")
	p.mustQueue("a")
	_, all := p.backlog()
	u.answer(rule{Status: 200, Delay: time.Second})
	u.start()
	t.Cleanup(u.kill)
	forceTo(t, p, "half-open")
	eventually(t, "it is being sent", func() bool { return len(u.records()) == 1 })
	if r := p.operate("DELETE", "/api/v1/queue/"+all[0].ID, adminToken); r.status != http.StatusConflict {
		t.Errorf("drop: %+v", r)
	}
	p.drained()
	u.awaitTaken("a")
}

func TestQueueWritesRequireToken(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "")})
	p.kill()
	p.environment = []string{"CBPROXY_ADMIN_TOKEN="}
	p.start()
	p.mustQueue("a")
	_, all := p.backlog()
	for method, path := range map[string]string{"DELETE": all[0].ID, "POST": all[0].ID + "/retry"} {
		if r := p.operate(method, "/api/v1/queue/"+path, "any"); r.status != http.StatusForbidden {
			t.Errorf("%s: %+v", method, r)
		}
	}
}

// TestQueueDoesNotLeakSecrets checks that the admin API, the metrics and the log show no part of a request
// but its path.
func TestQueueDoesNotLeakSecrets(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "drop_headers: [X-Dropped], redact_headers: [X-Redacted, X-Absent]")})
	p.kill()
	p.flags = append(p.flags, "--log-level", "debug")
	p.start()
	changes := followEvents(p, "queue_changed")
	send := func(name string) {
		t.Helper()
		r := p.send("POST", "/svc/"+name+"?q=s3cret-query", "s3cret-body "+name, "Authorization", "Bearer s3cret-header", "X-Dropped", "s3cret-dropped",
			"X-Redacted", "s3cret-redacted", "X-Redacted", "s3cret-too", "Cookie", "s3cret-cookie", "Idempotency-Key", "s3cret-key-"+name)
		if r.status != http.StatusAccepted {
			t.Fatalf("%+v", r)
		}
	}
	send("bad")
	send("slow")
	send("last")
	u.answer(rule{In: "/bad", Status: 400, Body: "s3cret-answer", Headers: map[string]string{"X-Said": "s3cret-said"}}, rule{In: "/slow", Status: 500, Body: "s3cret-answer"})
	u.start()
	t.Cleanup(u.kill)
	letters := p.dead(1)
	eventually(t, "the next one has failed", func() bool { s, _ := p.backlog(); return s.LastError == "status 500" })
	shown := p.operate("GET", "/api/v1/queue", "").body + p.operate("POST", "/api/v1/queue/"+letters[0].ID+"/retry", adminToken).body +
		p.metrics() + p.operate("GET", "/api/v1/circuit-breakers/health", "").body + p.operate("GET", "/api/v1/circuit-breakers/svc/history", "").body +
		p.operate("GET", "/api/v1/config", "").body + <-changes
	if !strings.Contains(shown, "/svc/bad") {
		t.Errorf("no path in %s", shown)
	}
	u.answer()
	p.drained()
	for what, text := range map[string]string{"the admin plane": shown, "the log": p.log.String()} {
		if i := strings.Index(text, "s3cret"); i >= 0 {
			t.Errorf("%s contains …%.120s", what, text[max(0, i-60):])
		}
	}
	for _, q := range u.records() {
		if len(q.Header["X-Dropped"]) > 0 || !slices.Equal(q.Header["X-Redacted"], []string{"redacted"}) || len(q.Header["X-Absent"]) > 0 ||
			q.Header.Get("Authorization") != "Bearer s3cret-header" {
			t.Errorf("delivered with %v", q.Header)
		}
	}
}

// TestDroppedRequestIsCountedOnce checks that a dropped request is not counted as expired too.
func TestDroppedRequestIsCountedOnce(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "max_age: 1")})
	forceTo(t, p, "open")
	p.mustQueue("a", "b")
	_, all := p.backlog()
	if r := p.operate("DELETE", "/api/v1/queue/"+all[0].ID, adminToken); r.status != http.StatusOK {
		t.Errorf("drop: %+v", r)
	}
	if letter := p.dead(1)[0]; letter.ID != all[1].ID {
		t.Errorf("%+v", letter)
	}
	p.mustQueue("c")
	eventually(t, "one waits and one has died", func() bool { // the counter is updated after the dead letter appears
		s, _ := p.backlog()
		return s.Waiting == 1 && s.Died == 1
	})
}

// TestConcurrentQueueOperations checks that concurrent retries and drops deliver or drop each request once,
// and that counts stay correct.
func TestConcurrentQueueOperations(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "")})
	bodies := numbered("bad", 20)
	p.mustQueue(bodies...)
	u.answer(rule{In: "bad", Status: 400})
	u.start()
	t.Cleanup(u.kill)
	letters := p.dead(len(bodies))
	u.answer()
	dropped := make([]atomic.Int64, len(letters))
	var operators sync.WaitGroup
	for n := range 4 {
		operators.Go(func() {
			for i, l := range letters {
				if n%2 == 0 || i%2 == 0 {
					p.operate("POST", "/api/v1/queue/"+l.ID+"/retry", adminToken)
				} else if p.operate("DELETE", "/api/v1/queue/"+l.ID, adminToken).status == http.StatusOK {
					dropped[i].Add(1)
				}
			}
		})
	}
	operators.Wait()
	p.drained()
	p.dead(0)
	delivered, more := u.unique()
	if more > 0 {
		t.Errorf("%d were sent twice", more)
	}
	for i, l := range letters {
		sent := slices.Contains(delivered, bodies[i])
		if n := dropped[i].Load(); sent != (n == 0) {
			t.Errorf("%s was dropped %d times, and sent: %v", l.Path, n, sent)
		}
	}
	eventually(t, "requests go straight through", func() bool { return p.post("after").status == http.StatusOK })
}
