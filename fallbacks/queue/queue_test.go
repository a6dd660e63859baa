package queue_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	"cbproxy/fallbacks/queue"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/internal/events"
	internalqueue "cbproxy/internal/queue"
	"cbproxy/internal/queue/disk"
)

// memoryQueues are the queues of a process, in memory. It is their Sender.
type memoryQueues struct {
	*internalqueue.Queues
	sent   chan *internalqueue.Message
	errors chan error // the results of the next deliveries; without any, a delivery succeeds
}

func (q *memoryQueues) Send(_ context.Context, _ string, m *internalqueue.Message) (internalqueue.Answer, error) {
	select {
	case err := <-q.errors:
		return internalqueue.Answer{}, err
	default:
		q.sent <- m
		return internalqueue.Answer{Status: 200}, nil
	}
}

// LastSuccess implements queue.Sender.
func (q *memoryQueues) LastSuccess(string) time.Time { return time.Time{} }

func newQueues(t *testing.T) *memoryQueues {
	t.Helper()
	s, _, err := disk.Open("")
	if err != nil {
		t.Fatal(err)
	}
	q := &memoryQueues{sent: make(chan *internalqueue.Message, 100), errors: make(chan error, 100)}
	q.Queues = internalqueue.New(internalqueue.Config{Store: s, Bus: new(events.Bus), Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = s.Close() })
	return q
}

// run delivers requests until the test ends.
func (q *memoryQueues) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); q.Run(ctx, q) }()
	t.Cleanup(func() { cancel(); <-done })
}

// host implements queue.Host.
type host struct{ queues *internalqueue.Queues }

func (h host) Queues() *internalqueue.Queues { return h.queues }

func env(queues *internalqueue.Queues) fallbacks.Env {
	e := fallbacktest.Env()
	e.Provider = host{queues}
	return e
}

func startChain(t *testing.T, o *queue.Options, queues *internalqueue.Queues) *fallbacks.Chain {
	t.Helper()
	c := fallbacktest.NewChain(t, "queue", o, env(queues))
	c.Start()
	t.Cleanup(c.Close)
	return c
}

func newPost(body string) *fallbacktest.Client {
	return &fallbacktest.Client{Content: []byte(body), Req: fallbacks.Request{
		Method: "POST", Host: "client.example", Path: "/svc/a%2Fb", Rest: "/a%2Fb", Query: "q=%20",
		Header: http.Header{"Authorization": {"secret"}, "X-Kept": {"1", "2"}},
	}}
}

func TestQueueStoresTheUpstreamRequest(t *testing.T) {
	q := newQueues(t)
	o := queue.DefaultOptions()
	o.Status, o.Body = 201, fallbacks.JSON(`{"later":true}`)
	o.DropHeaders = []string{"authorization"}
	o.RedactHeaders = []string{"x-secret", "X-Other", "x-none"}
	c := startChain(t, o, q.Queues)
	r := newPost("hello")
	r.Req.Header["X-Secret"] = []string{"", "hidden"}
	r.Req.Header["X-Other"] = []string{"hidden", "too"}
	before := time.Now()
	a, name, err := c.Answer(t.Context(), r, events.ReasonOpen)
	if err != nil || name != "queue" || a.Status != 201 || string(a.Body) != `{"later":true}` || a.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%+v, %q, %v", a, name, err)
	}
	if s := q.Status("svc"); s.Waiting != 1 || s.Accepted != 1 {
		t.Errorf("answered, and %+v", s)
	}
	if h := r.Req.Header; h.Get("Authorization") != "secret" || h.Get("X-Other") != "hidden" || len(h) != 4 {
		t.Errorf("the client's header became %v", h)
	}
	q.run(t)
	m := <-q.sent
	want := http.Header{"X-Kept": {"1", "2"}, "X-Secret": {"redacted"}, "X-Other": {"redacted"}, "X-Delivery-Attempt": {"1"}, "Idempotency-Key": m.Header["Idempotency-Key"]}
	if fmt.Sprint(m.Header) != fmt.Sprint(want) || m.Header.Get("Idempotency-Key") == "" {
		t.Errorf("header %v", m.Header)
	}
	if m.Method != "POST" || m.Host != "client.example" || m.Path != "/svc/a%2Fb" || m.Rest != "/a%2Fb" || m.Query != "q=%20" || string(m.Body) != "hello" {
		t.Errorf("%+v", m)
	}
	if m.Accepted.Before(before.Add(-time.Millisecond)) || m.Accepted.After(time.Now()) {
		t.Errorf("accepted at %v", m.Accepted)
	}
}

func TestQueueAnswerWithoutBody(t *testing.T) {
	o := queue.DefaultOptions()
	o.Status, o.Body = 204, nil
	a, _, err := startChain(t, o, newQueues(t).Queues).Answer(t.Context(), newPost("x"), events.ReasonOpen)
	if err != nil || a.Status != 204 || len(a.Body) != 0 || a.Header["Content-Type"] != nil {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestQueueDeclinesRequests(t *testing.T) {
	full := queue.DefaultOptions()
	full.Capacity = 1
	short := queue.DefaultOptions()
	short.MaxBody = 4
	for name, c := range map[string]struct {
		options *queue.Options
		none    bool
		method  string
		times   int
		want    string
	}{
		"a method":                 {queue.DefaultOptions(), false, "GET", 1, "the method GET is not in methods"},
		"a method's case":          {queue.DefaultOptions(), false, "post", 1, "the method post is not in methods"},
		"a long body":              {short, false, "POST", 1, "too large"},
		"a full queue":             {full, false, "POST", 2, "the queue is full: 1 requests are waiting"},
		"a process without queues": {queue.DefaultOptions(), true, "POST", 1, "the process has no queue"},
	} {
		q := newQueues(t)
		queues := q.Queues
		if c.none {
			queues = nil
		}
		chain := startChain(t, c.options, queues)
		r := newPost("hello")
		r.Req.Method = c.method
		var err error
		for range c.times {
			_, _, err = chain.Answer(t.Context(), r, events.ReasonOpen)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if s := q.Status("svc"); s.Waiting != c.times-1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestUpgradesAreNotQueued(t *testing.T) {
	q := newQueues(t)
	o := queue.DefaultOptions()
	o.Methods = []string{"GET"}
	r := newPost("")
	r.Req.Method, r.Req.Upgrade = "GET", "websocket"
	if a, err := fallbacktest.Answer(t, startChain(t, o, q.Queues), r); err == nil || !strings.Contains(err.Error(), "upgrade") || q.Status("svc").Waiting > 0 {
		t.Errorf("%+v, %v, %+v", a, err, q.Status("svc"))
	}
}

func TestOrderedQueueInterceptsWhileRequestsWait(t *testing.T) {
	q := newQueues(t)
	unordered := queue.DefaultOptions()
	unordered.Ordered = false
	ordered, free := startChain(t, queue.DefaultOptions(), q.Queues), startChain(t, unordered, q.Queues)
	nothing := startChain(t, queue.DefaultOptions(), nil)
	check := func(when string, want bool, why events.Reason) {
		t.Helper()
		for _, method := range []string{"POST", "PUT"} {
			if reason, ok := ordered.Intercept(method); ok != want || reason != why {
				t.Errorf("%s: intercepts %s: %v, %q", when, method, ok, reason)
			}
		}
		_, get := ordered.Intercept("GET")
		_, passes := free.Intercept("POST")
		_, none := nothing.Intercept("POST")
		if get || passes || none {
			t.Errorf("%s: intercepts GET: %v, without order: %v, without a queue: %v", when, get, passes, none)
		}
	}
	check("empty", false, "")
	if _, _, err := ordered.Answer(t.Context(), newPost("x"), events.ReasonOpen); err != nil {
		t.Fatal(err)
	}
	check("waiting", true, "")
	q.errors <- &internalqueue.Failed{Reason: events.ReasonTimeout, Err: errors.New("no answer")}
	q.run(t)
	for range 1000 {
		if q.Status("svc").LastError != "" || q.Status("svc").Delivered > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if q.Status("svc").Waiting > 0 {
		check("failing", true, events.ReasonTimeout)
	}
	<-q.sent
	for q.Status("svc").Waiting > 0 {
		time.Sleep(time.Millisecond)
	}
	check("delivered", false, "")
}

// The options of a strategy that is not started must have no effect.
func TestStartConfiguresTheQueue(t *testing.T) {
	q := newQueues(t)
	first := queue.DefaultOptions()
	first.Capacity = 1
	c := startChain(t, first, q.Queues)
	next, err := fallbacks.NewChain([]string{"queue"}, map[string]any{"queue": queue.DefaultOptions()}, env(q.Queues), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if _, _, err := c.Answer(t.Context(), newPost("x"), events.ReasonOpen); (err == nil) != want {
			t.Errorf("%d: %v", i, err)
		}
	}
	next.Start()
	if _, _, err := c.Answer(t.Context(), newPost("x"), events.ReasonOpen); err != nil {
		t.Errorf("the larger capacity is in effect, got %v", err)
	}
}

func TestValidateReportsAllErrors(t *testing.T) {
	folder := t.TempDir()
	secret := base64.StdEncoding.EncodeToString(make([]byte, 31))
	bad, good := filepath.Join(folder, "bad"), filepath.Join(folder, "good")
	if err := errors.Join(os.WriteFile(bad, []byte("# x\n"+secret), 0o600),
		os.WriteFile(good, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(o *queue.Options)
		want   map[string]string
	}{
		"by default": {func(*queue.Options) {}, nil},
		"backoffs": {func(o *queue.Options) { o.Backoff, o.MaxBackoff = 2*time.Second, time.Second },
			map[string]string{"max_backoff": "must be at least backoff (2s), got 1s"}},
		"a body with 204": {func(o *queue.Options) { o.Status = 204 }, map[string]string{"body": "status 204 has no body"}},
		"none with 204":   {func(o *queue.Options) { o.Status, o.Body = 204, nil }, nil},
		"names": {func(o *queue.Options) {
			o.DropHeaders, o.RedactHeaders = []string{"ok", "not ok"}, []string{"", "a:b", "X-Fine"}
		}, map[string]string{"drop_headers[1]": `got "not ok"`, "redact_headers[0]": `got ""`, "redact_headers[1]": `got "a:b"`}},
		"one key for all": {func(o *queue.Options) { o.RedactHeaders = []string{"idempotency-key"} },
			map[string]string{"redact_headers[0]": "must not be Idempotency-Key"}},
		"a missing key file": {func(o *queue.Options) { o.Encryption.KeyFile = filepath.Join(folder, "none") }, map[string]string{"encryption.key_file": "no such file"}},
		"a faulty key file":  {func(o *queue.Options) { o.Encryption.KeyFile = bad }, map[string]string{"encryption.key_file": bad + ":2: "}},
		"a key file":         {func(o *queue.Options) { o.Encryption.KeyFile = good }, nil},
	} {
		o := queue.DefaultOptions()
		c.change(o)
		got := map[string]string{}
		o.Validate(func(path, message string) { got[path] = message })
		if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(c.want))) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		for path, message := range c.want {
			if !strings.Contains(got[path], message) || strings.Contains(got[path], secret) {
				t.Errorf("%s: %s: %q, want %q", name, path, got[path], message)
			}
		}
	}
	o := queue.DefaultOptions()
	o.Encryption.KeyFile = bad
	if _, err := fallbacks.NewChain([]string{"queue"}, map[string]any{"queue": o}, fallbacktest.Env(), nil); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a faulty key file: %v", err)
	}
}

// A test of the fallback gets the answer that a queued request would get, and nothing is stored.
func TestATestStoresNothing(t *testing.T) {
	q := newQueues(t)
	o := queue.DefaultOptions()
	o.Capacity, o.MaxBody = 1, 10
	c := startChain(t, o, q.Queues)
	test := func(r *fallbacktest.Client) (*fallbacks.Answer, error) {
		a, _, err := c.Answer(t.Context(), r, events.ReasonTest)
		return a, err
	}
	for range 100 {
		if a, err := test(newPost("x")); err != nil || a.Status != 202 || string(a.Body) != `{"status":"queued"}` {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	if s := q.Status("svc"); s.Waiting != 0 || s.Accepted != 0 {
		t.Errorf("after the tests: %+v", s)
	}
	get := newPost("x")
	get.Req.Method = "GET"
	upgrade := newPost("x")
	upgrade.Req.Upgrade = "websocket"
	for name, r := range map[string]*fallbacktest.Client{"another method": get, "an upgrade": upgrade, "too large": newPost("01234567890")} {
		if a, err := test(r); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if _, _, err := c.Answer(t.Context(), newPost("x"), events.ReasonOpen); err != nil {
		t.Fatal(err)
	}
	if a, err := test(newPost("x")); !errors.Is(err, internalqueue.ErrFull) {
		t.Errorf("with a full queue: %+v, %v", a, err)
	}
	if s := q.Status("svc"); s.Waiting != 1 || s.Accepted != 1 {
		t.Errorf("%+v", s)
	}
}

func TestATestWithoutAQueue(t *testing.T) {
	c := startChain(t, queue.DefaultOptions(), nil)
	if a, _, err := c.Answer(t.Context(), newPost("x"), events.ReasonTest); err == nil {
		t.Errorf("%+v", a)
	}
}
