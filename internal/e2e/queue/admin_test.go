package queue

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// TestDeadLetterIsRetriedOrDroppedByOperator checks that a request that fails permanently becomes a dead letter, which does
// not block later requests and which an operator can retry or drop.
func TestDeadLetterIsRetriedOrDroppedByOperator(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	p.MustQueue("a", "bad-1", "b", "bad-2", "c")
	u.SetRules(harness.Rule{In: "bad", Status: 400})
	u.Start()
	t.Cleanup(u.Kill)
	u.AwaitDelivered("a", "b", "c")
	letters := p.AwaitDeadLetters(2)
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
		{"GET", letters[0].ID + "/retry", harness.AdminToken, 405},
		{"PUT", letters[0].ID, harness.AdminToken, 405},
		{"POST", "svc.999999/retry", harness.AdminToken, 404},
		{"POST", "nonsense/retry", harness.AdminToken, 404},
		{"DELETE", "svc.999999", harness.AdminToken, 404},
		{"DELETE", "other.1", harness.AdminToken, 404},
		{"DELETE", letters[0].ID + "x", harness.AdminToken, 404},
	} {
		if r := p.AdminRequest(c.method, base+c.path, c.token); r.Status != c.want || r.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %+v, want %d", c.method, c.path, r, c.want)
		}
	}
	if r := p.AdminRequest("DELETE", base+letters[1].ID, harness.AdminToken); r.Status != http.StatusOK || !strings.Contains(r.Body, letters[1].ID) {
		t.Errorf("drop: %+v", r)
	}
	if r := p.AdminRequest("DELETE", base+letters[1].ID, harness.AdminToken); r.Status != http.StatusNotFound {
		t.Errorf("drop again: %+v", r)
	}
	u.SetRules()
	if r := p.AdminRequest("POST", base+letters[0].ID+"/retry", harness.AdminToken); r.Status != http.StatusOK || !strings.Contains(r.Body, `"state":"waiting"`) {
		t.Errorf("retry: %+v", r)
	}
	u.AwaitDelivered("a", "b", "c", "bad-1")
	p.AwaitDeadLetters(0)
	keys := map[string]bool{}
	for _, q := range u.Records() {
		if q.BodyText == "bad-1" {
			keys[q.Header.Get("Idempotency-Key")] = true
		}
	}
	if len(keys) != 1 {
		t.Errorf("deliveries of one request have the idempotency keys %v", keys)
	}
}

func TestQueueListIsPaginated(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 1, recovery_timeout: 60", "")})
	p.MustQueue(harness.Numbered("m", 5)...)
	first := p.AdminRequest("GET", "/api/v1/queue?service=svc&state=waiting&limit=2", "")
	_, all := p.Queue()
	if len(all) != 5 || strings.Count(first.Body, `"id"`) != 2 || !strings.Contains(first.Body, `"more":true`) {
		t.Fatalf("first page %+v of %+v", first, all)
	}
	rest := p.AdminRequest("GET", "/api/v1/queue?service=svc&state=waiting&limit=3&after="+all[1].ID, "")
	if strings.Count(rest.Body, `"id"`) != 3 || !strings.Contains(rest.Body, all[4].ID) || !strings.Contains(rest.Body, `"more":false`) {
		t.Errorf("second page %+v", rest)
	}
	for _, query := range []string{"limit=0", "limit=x", "limit=100000", "state=unknown", "service=none", "after=" + all[0].ID} {
		if r := p.AdminRequest("GET", "/api/v1/queue?"+query, ""); r.Status != http.StatusBadRequest || r.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %+v", query, r)
		}
	}
	// An operator can drop a queued request, which does not affect the other requests.
	if r := p.AdminRequest("DELETE", "/api/v1/queue/"+all[2].ID, harness.AdminToken); r.Status != http.StatusOK {
		t.Errorf("drop: %+v", r)
	}
	u.Start()
	t.Cleanup(u.Kill)
	harness.ForceState(t, p, "half-open")
	u.AwaitDelivered("m00", "m01", "m03", "m04")
}

func TestRequestInDeliveryCannotBeDropped(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	harness.ForceState(t, p, "open")
	p.MustQueue("a")
	_, all := p.Queue()
	u.SetRules(harness.Rule{Status: 200, Delay: time.Second})
	u.Start()
	t.Cleanup(u.Kill)
	harness.ForceState(t, p, "half-open")
	harness.Eventually(t, "the request is being delivered", func() bool { return len(u.Records()) == 1 })
	if r := p.AdminRequest("DELETE", "/api/v1/queue/"+all[0].ID, harness.AdminToken); r.Status != http.StatusConflict {
		t.Errorf("drop: %+v", r)
	}
	p.AwaitEmptyQueue()
	u.AwaitDelivered("a")
}

// TestQueueWritesRequireToken checks that retries and drops are forbidden if no token is configured.
func TestQueueWritesRequireToken(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	p.Kill()
	p.Env = []string{"CBPROXY_ADMIN_TOKEN="}
	p.Start()
	p.MustQueue("a")
	_, all := p.Queue()
	for method, path := range map[string]string{"DELETE": all[0].ID, "POST": all[0].ID + "/retry"} {
		if r := p.AdminRequest(method, "/api/v1/queue/"+path, "any"); r.Status != http.StatusForbidden {
			t.Errorf("%s: %+v", method, r)
		}
	}
}

// TestQueueDoesNotLeakSecrets checks that the admin API, the metrics and the log contain no part of a queued request other
// than its path.
func TestQueueDoesNotLeakSecrets(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "drop_headers: [X-Dropped], redact_headers: [X-Redacted, X-Absent]")})
	p.Kill()
	p.Flags = append(p.Flags, "--log-level", "debug")
	p.Start()
	changes := readEvents(p, "queue_changed")
	send := func(name string) {
		t.Helper()
		r := p.Send("POST", "/svc/"+name+"?q=s3cret-query", "s3cret-body "+name, "Authorization", "Bearer s3cret-header", "X-Dropped", "s3cret-dropped",
			"X-Redacted", "s3cret-redacted", "X-Redacted", "s3cret-too", "Cookie", "s3cret-cookie", "Idempotency-Key", "s3cret-key-"+name)
		if r.Status != http.StatusAccepted {
			t.Fatalf("%+v", r)
		}
	}
	send("bad")
	send("slow")
	send("last")
	u.SetRules(harness.Rule{In: "/bad", Status: 400, Body: "s3cret-response", Headers: map[string]string{"X-Upstream": "s3cret-upstream"}}, harness.Rule{In: "/slow", Status: 500, Body: "s3cret-response"})
	u.Start()
	t.Cleanup(u.Kill)
	letters := p.AwaitDeadLetters(1)
	harness.Eventually(t, "the next request has failed", func() bool { s, _ := p.Queue(); return s.LastError == "status 500" })
	outputs := p.AdminRequest("GET", "/api/v1/queue", "").Body + p.AdminRequest("POST", "/api/v1/queue/"+letters[0].ID+"/retry", harness.AdminToken).Body +
		p.Metrics() + p.AdminRequest("GET", "/api/v1/circuit-breakers/health", "").Body + p.AdminRequest("GET", "/api/v1/circuit-breakers/svc/history", "").Body +
		p.AdminRequest("GET", "/api/v1/config", "").Body + <-changes
	if !strings.Contains(outputs, "/svc/bad") {
		t.Errorf("the admin API and the metrics do not contain the path: %s", outputs)
	}
	u.SetRules()
	p.AwaitEmptyQueue()
	for source, text := range map[string]string{"the admin API or the metrics": outputs, "the log": p.Log.String()} {
		if i := strings.Index(text, "s3cret"); i >= 0 {
			t.Errorf("%s contains …%.120s", source, text[max(0, i-60):])
		}
	}
	for _, q := range u.Records() {
		if len(q.Header["X-Dropped"]) > 0 || !slices.Equal(q.Header["X-Redacted"], []string{"redacted"}) || len(q.Header["X-Absent"]) > 0 ||
			q.Header.Get("Authorization") != "Bearer s3cret-header" {
			t.Errorf("delivered with the fields %v", q.Header)
		}
	}
}

// TestDroppedRequestIsCountedOnce checks that a dropped request is not counted as expired later.
func TestDroppedRequestIsCountedOnce(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "max_age: 1")})
	harness.ForceState(t, p, "open")
	p.MustQueue("a", "b")
	_, all := p.Queue()
	if r := p.AdminRequest("DELETE", "/api/v1/queue/"+all[0].ID, harness.AdminToken); r.Status != http.StatusOK {
		t.Errorf("drop: %+v", r)
	}
	if letter := p.AwaitDeadLetters(1)[0]; letter.ID != all[1].ID {
		t.Errorf("%+v", letter)
	}
	p.MustQueue("c")
	harness.Eventually(t, "one request is queued and one dead letter is counted", func() bool { // the counter is updated after the dead letter appears
		s, _ := p.Queue()
		return s.Waiting == 1 && s.Died == 1
	})
}

// TestConcurrentQueueOperations checks that concurrent retries and drops either deliver or drop each request, once.
func TestConcurrentQueueOperations(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	bodies := harness.Numbered("bad", 20)
	p.MustQueue(bodies...)
	u.SetRules(harness.Rule{In: "bad", Status: 400})
	u.Start()
	t.Cleanup(u.Kill)
	letters := p.AwaitDeadLetters(len(bodies))
	u.SetRules()
	dropped := make([]atomic.Int64, len(letters))
	var operators sync.WaitGroup
	for n := range 4 {
		operators.Go(func() {
			for i, l := range letters {
				if n%2 == 0 || i%2 == 0 {
					p.AdminRequest("POST", "/api/v1/queue/"+l.ID+"/retry", harness.AdminToken)
				} else if p.AdminRequest("DELETE", "/api/v1/queue/"+l.ID, harness.AdminToken).Status == http.StatusOK {
					dropped[i].Add(1)
				}
			}
		})
	}
	operators.Wait()
	p.AwaitEmptyQueue()
	p.AwaitDeadLetters(0)
	delivered, duplicates := u.UniqueBodies()
	if duplicates > 0 {
		t.Errorf("%d duplicate deliveries", duplicates)
	}
	for i, l := range letters {
		sent := slices.Contains(delivered, bodies[i])
		if n := dropped[i].Load(); sent != (n == 0) {
			t.Errorf("%s was dropped %d times, delivered: %v", l.Path, n, sent)
		}
	}
	harness.Eventually(t, "requests bypass the queue", func() bool { return p.Post("after").Status == http.StatusOK })
}
