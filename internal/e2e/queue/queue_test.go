package queue

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// TestNotificationsSurviveUpstreamOutage checks the built-in queue of notifier_service: notifications sent while the
// upstream is down are accepted, delivered in order, and counted.
func TestNotificationsSurviveUpstreamOutage(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: "routes: {notifier_service: {upstream: " + u.URL() + "}}\n",
		Env: []string{"CIRCUIT_BREAKER_NOTIFIER_FAIL_MAX=2", "CIRCUIT_BREAKER_NOTIFIER_RECOVERY_TIMEOUT=1"}})
	changes := readEvents(p, "queue_changed")
	reasons := []string{"connect", "open", "half_open_limit", "overload"}
	bodies := harness.Numbered("note", 8)
	for _, body := range bodies {
		r := p.Send(http.MethodPost, "/notify/"+body, body)
		var response map[string]any
		if err := json.Unmarshal([]byte(r.Body), &response); err != nil || r.Status != http.StatusAccepted ||
			r.Header.Get("X-Fallback") != "queue" || !slices.Contains(reasons, r.Header.Get("X-Fallback-Reason")) {
			t.Fatalf("%s: %+v, %v", body, r, err)
		}
		if response["notification_queued"] != true || response["status"] != "queued_for_retry" || response["retry_scheduled"] != true || response["message"] == "" {
			t.Errorf("%s: %s", body, r.Body)
		}
	}
	if n := p.Metric(`cbproxy_queue_depth{service="notifier_service"}`); n != 8 {
		t.Errorf("%v requests are queued, want 8", n)
	}
	harness.Eventually(t, "the event stream reports 8 queued requests", func() bool { return strings.Contains(<-changes, `"waiting":8`) })
	u.Start()
	t.Cleanup(u.Kill)
	u.AwaitDelivered(bodies...)
	harness.Eventually(t, "the event stream reports an empty queue", func() bool { return strings.Contains(<-changes, `"waiting":0`) })
	for series, want := range map[string]float64{
		`cbproxy_queue_depth{service="notifier_service"}`:           0,
		`cbproxy_queue_dead{service="notifier_service"}`:            0,
		`cbproxy_queue_accepted_total{service="notifier_service"}`:  8,
		`cbproxy_queue_delivered_total{service="notifier_service"}`: 8,
	} {
		if v := p.Metric(series); v != want {
			t.Errorf("%s is %v, want %v", series, v, want)
		}
	}
	if list := p.AdminRequest(http.MethodGet, "/api/v1/queue", "").Body; !strings.Contains(list, `"waiting":0,"dead":0,"oldest":null`) ||
		!strings.Contains(list, `"accepted":8,"delivered":8`) {
		t.Errorf("the admin API lists %s", list)
	}
	harness.Eventually(t, "requests bypass the queue", func() bool {
		r := p.Send(http.MethodPost, "/notify/direct", "direct")
		return r.Status == http.StatusOK && r.Header.Get("X-Fallback") == "" && r.BreakerState() == "closed"
	})
	for _, q := range u.Records() {
		if attempt := q.Header.Get("X-Delivery-Attempt"); (q.BodyText == "direct") != (attempt == "") {
			t.Errorf("%s was sent with X-Delivery-Attempt %q", q.BodyText, attempt)
		}
	}
}

// readEvents returns a channel of the data of events of one kind that the event stream sends from now on.
func readEvents(p *harness.Proxy, kind string) <-chan string {
	p.T.Helper()
	res, err := http.Get(p.AdminURL + "/api/v1/events")
	if err != nil {
		p.T.Fatal(err)
	}
	p.T.Cleanup(func() { _ = res.Body.Close() })
	lines := bufio.NewReader(res.Body)
	if first, err := lines.ReadString('\n'); err != nil || first != "event: snapshot\n" {
		p.T.Fatalf("event stream: %q, %v", first, err)
	}
	received := make(chan string, 1000)
	go func() {
		defer close(received)
		wanted := false
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if name, ok := strings.CutPrefix(line, "event: "); ok {
				wanted = name == kind+"\n"
			} else if data, ok := strings.CutPrefix(line, "data: "); ok && wanted {
				received <- data
			}
		}
	}()
	return received
}

// TestQueuedRequestIsDeliveredUnchanged checks that a delivery has the target, the fields and the body of the client's
// request byte for byte, except for fields that the proxy sets or removes, also if the proxy was killed in between.
func TestQueuedRequestIsDeliveredUnchanged(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	body := "\x00\x01binary\xff\xfe\r\n\r\nGET / HTTP/1.1\r\n"
	for _, raw := range []string{
		"POST /svc/a%2Fb//c%20d;x=%41?a=%&b=%zz&c HTTP/1.1\r\nHost: client.example\r\nX-Many: one\r\nX-Many: two, three\r\nX-Bytes: caf\xe9 \xff\r\n" +
			"Cookie: a=b\r\nAuthorization: Bearer t0ken\r\nIdempotency-Key: the-client's\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n" +
			"X_Forwarded_For: 6.6.6.6\r\nConnection: X-Hop, close\r\nX-Hop: hop\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\n" +
			"X-Delivery-Attempt: 77\r\nX-Circuit-Breaker-State: spoofed\r\n" +
			fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body),
		"PUT /svc HTTP/1.1\r\nHost: client.example\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
		"POST /svc/caf\xe9?q=\xff<&> HTTP/1.1\r\nHost: client.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	} {
		if r := p.SendRaw(raw); r.Status != http.StatusAccepted {
			t.Fatalf("%q: %+v", raw, r)
		}
	}
	p.Signal(syscall.SIGKILL)
	p.Wait()
	u.Start()
	t.Cleanup(u.Kill)
	p.Start()
	harness.Eventually(t, "all are delivered", func() bool { return len(u.Records()) == 3 })
	got := u.Records()
	first := got[0]
	for i, want := range []struct{ method, target, body string }{
		{"POST", "/a%2Fb//c%20d;x=%41?a=%&b=%zz&c", body}, {"PUT", "/", "abcde"}, {"POST", "/caf\xe9?q=\xff<&>", ""},
	} {
		if q := got[i]; q.Method != want.method || q.RequestURI != want.target || q.BodyText != want.body || q.Host != u.Address || q.ContentLength != int64(len(want.body)) {
			t.Errorf("%s %q to %s with %d bytes %q, want %+v", q.Method, q.RequestURI, q.Host, q.ContentLength, q.BodyText, want)
		}
		attempt, err := strconv.Atoi(got[i].Header.Get("X-Delivery-Attempt"))
		if got[i].Header.Get("Idempotency-Key") == "" || err != nil || attempt < 1 || attempt > 9 {
			t.Errorf("delivered with the fields %q", got[i].Header)
		}
	}
	for name, want := range map[string][]string{
		"X-Many": {"one", "two, three"}, "X-Bytes": {"caf\xe9 \xff"}, "Cookie": {"a=b"}, "Authorization": {"Bearer t0ken"},
		"Idempotency-Key": {"the-client's"},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"client.example"}, "X-Forwarded-Proto": {"http"},
		"Forwarded": nil, "X_forwarded_for": nil, "X_Forwarded_For": nil, "Connection": nil, "X-Hop": nil, "Keep-Alive": nil, "Te": nil,
		"Proxy-Authorization": nil, "X-Circuit-Breaker-State": nil, "User-Agent": nil, "Transfer-Encoding": nil,
	} {
		if !slices.Equal(first.Header[name], want) {
			t.Errorf("%s: %q, want %q", name, first.Header[name], want)
		}
	}
	if got[1].Header.Get("Idempotency-Key") == got[2].Header.Get("Idempotency-Key") {
		t.Error("two requests have the same Idempotency-Key")
	}
}

// TestQueuePreservesOrder checks that new requests are queued behind older ones while the queue is being delivered to a
// healthy upstream.
func TestQueuePreservesOrder(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	p.MustQueue(harness.Numbered("a", 10)...)
	u.SetRules(harness.Rule{Status: 200, Delay: 100 * time.Millisecond})
	u.Start()
	t.Cleanup(u.Kill)
	harness.Eventually(t, "the second request is being delivered, so that the breaker is closed", func() bool { return len(u.Records()) > 1 })
	p.MustQueue(harness.Numbered("b", 5)...)
	if r := p.Get("/svc/read"); r.Status != http.StatusOK || r.Header.Get("X-Fallback") != "" {
		t.Errorf("a GET, which is never queued: %+v", r)
	}
	p.AwaitEmptyQueue()
	delivered := slices.DeleteFunc(u.SuccessfulBodies(), func(body string) bool { return body == "" })
	if want := append(harness.Numbered("a", 10), harness.Numbered("b", 5)...); !slices.Equal(delivered, want) {
		t.Errorf("delivered %q, want %q", delivered, want)
	}
}

// TestTruncatedUploadIsNotQueued checks that a request whose client disconnects during the upload is not queued.
func TestTruncatedUploadIsNotQueued(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	p.MustQueue("whole")
	c, _ := p.Dial()
	if _, err := io.WriteString(c, "POST /svc/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	harness.Eventually(t, "the proxy has ended the request", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	u.Start()
	t.Cleanup(u.Kill)
	p.AwaitEmptyQueue()
	if got := u.SuccessfulBodies(); !slices.Equal(got, []string{"whole"}) {
		t.Errorf("delivered %q", got)
	}
}
