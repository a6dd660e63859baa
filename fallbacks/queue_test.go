package fallbacks_test

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
	"cbproxy/internal/events"
	"cbproxy/internal/queue"
	"cbproxy/internal/store"
)

// kept is the queues of a process in memory, and what is delivered from them.
type kept struct {
	*queue.Queues
	sent    chan *queue.Message
	refuses chan error // what is delivered is refused with, one each; nil is 200
}

func (k *kept) Send(_ context.Context, _ string, m *queue.Message) (queue.Answer, error) {
	select {
	case err := <-k.refuses:
		return queue.Answer{}, err
	default:
		k.sent <- m
		return queue.Answer{Status: 200}, nil
	}
}

func newKept(t *testing.T) *kept {
	t.Helper()
	s, _, err := store.OpenQueue("")
	if err != nil {
		t.Fatal(err)
	}
	k := &kept{sent: make(chan *queue.Message, 100), refuses: make(chan error, 100)}
	k.Queues = queue.New(queue.Config{Store: s, Sender: k, Bus: new(events.Bus), Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = s.Close() })
	return k
}

// run delivers until the test ends.
func (k *kept) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func queueOptions() *fallbacks.QueueOptions {
	return fallbacks.Options()["queue"]().(*fallbacks.QueueOptions)
}

func queueChain(t *testing.T, o *fallbacks.QueueOptions, queues *queue.Queues) *fallbacks.Chain {
	t.Helper()
	where := site()
	where.Host.Queues = queues
	c, err := fallbacks.NewChain([]string{"queue"}, map[string]any{"queue": o}, where, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(c.Close)
	return c
}

func posted(body string) *client {
	return &client{body: []byte(body), request: fallbacks.Request{
		Method: "POST", Host: "client.example", Path: "/svc/a%2Fb", Rest: "/a%2Fb", Query: "q=%20",
		Header: http.Header{"Authorization": {"secret"}, "X-Kept": {"1", "2"}},
	}}
}

func TestQueueKeepsWhatTheUpstreamWouldGet(t *testing.T) {
	k := newKept(t)
	o := queueOptions()
	o.Status, o.Body = 201, fallbacks.JSON(`{"later":true}`)
	o.DropHeaders = []string{"authorization"}
	o.RedactHeaders = []string{"x-secret", "X-Other", "x-none"}
	c := queueChain(t, o, k.Queues)
	r := posted("hello")
	r.request.Header["X-Secret"] = []string{"", "hidden"}
	r.request.Header["X-Other"] = []string{"hidden", "too"}
	before := time.Now()
	a, name, err := c.Answer(t.Context(), r, events.ReasonOpen)
	if err != nil || name != "queue" || a.Status != 201 || string(a.Body) != `{"later":true}` || a.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%+v, %q, %v", a, name, err)
	}
	if s := k.Status("svc"); s.Waiting != 1 || s.Accepted != 1 {
		t.Errorf("answered, and %+v", s)
	}
	if h := r.request.Header; h.Get("Authorization") != "secret" || h.Get("X-Other") != "hidden" || len(h) != 4 {
		t.Errorf("the client's header became %v", h)
	}
	k.run(t)
	m := <-k.sent
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

func TestQueueAnswersWithoutABodyWhereTheStatusHasNone(t *testing.T) {
	o := queueOptions()
	o.Status, o.Body = 204, nil
	a, _, err := queueChain(t, o, newKept(t).Queues).Answer(t.Context(), posted("x"), events.ReasonOpen)
	if err != nil || a.Status != 204 || len(a.Body) != 0 || a.Header["Content-Type"] != nil {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestQueueDeclinesWhatItCantKeep(t *testing.T) {
	full := queueOptions()
	full.Capacity = 1
	short := queueOptions()
	short.MaxBody = 4
	for name, c := range map[string]struct {
		options *fallbacks.QueueOptions
		none    bool
		method  string
		times   int
		want    string
	}{
		"a method":               {queueOptions(), false, "GET", 1, "the method GET is not in methods"},
		"a method's case":        {queueOptions(), false, "post", 1, "the method post is not in methods"},
		"a long body":            {short, false, "POST", 1, "too large"},
		"what is too much":       {full, false, "POST", 2, "the queue is full: 1 requests wait"},
		"what has nowhere to go": {queueOptions(), true, "POST", 1, "there is no queue"},
	} {
		k := newKept(t)
		queues := k.Queues
		if c.none {
			queues = nil
		}
		chain := queueChain(t, c.options, queues)
		r := posted("hello")
		r.request.Method = c.method
		var err error
		for range c.times {
			_, _, err = chain.Answer(t.Context(), r, events.ReasonOpen)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if s := k.Status("svc"); s.Waiting != c.times-1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestQueueHoldsWhatMustNotPass(t *testing.T) {
	k := newKept(t)
	unordered := queueOptions()
	unordered.Ordered = false
	ordered, free := queueChain(t, queueOptions(), k.Queues), queueChain(t, unordered, k.Queues)
	nothing := queueChain(t, queueOptions(), nil)
	check := func(when string, want bool, why events.Reason) {
		t.Helper()
		for _, method := range []string{"POST", "PUT"} {
			if reason, holds := ordered.Holds(method); holds != want || reason != why {
				t.Errorf("%s: holds %s: %v, %q", when, method, holds, reason)
			}
		}
		_, get := ordered.Holds("GET")
		_, passes := free.Holds("POST")
		_, none := nothing.Holds("POST")
		if get || passes || none {
			t.Errorf("%s: holds GET: %v, without order: %v, without a queue: %v", when, get, passes, none)
		}
	}
	check("empty", false, "")
	if _, _, err := ordered.Answer(t.Context(), posted("x"), events.ReasonOpen); err != nil {
		t.Fatal(err)
	}
	check("waiting", true, "")
	k.refuses <- &queue.Failed{Reason: events.ReasonTimeout, Err: errors.New("no answer")}
	k.run(t)
	for range 1000 {
		if k.Status("svc").LastError != "" || k.Status("svc").Delivered > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if k.Status("svc").Waiting > 0 {
		check("failing", true, events.ReasonTimeout)
	}
	<-k.sent
	for k.Status("svc").Waiting > 0 {
		time.Sleep(time.Millisecond)
	}
	check("delivered", false, "")
}

// A queue works by the options in force, not by those that were only built.
func TestQueueIsConfiguredOnceItIsStarted(t *testing.T) {
	k := newKept(t)
	first := queueOptions()
	first.Capacity = 1
	c := queueChain(t, first, k.Queues)
	where := site()
	where.Host.Queues = k.Queues
	next, err := fallbacks.NewChain([]string{"queue"}, map[string]any{"queue": queueOptions()}, where, c)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if _, _, err := c.Answer(t.Context(), posted("x"), events.ReasonOpen); (err == nil) != want {
			t.Errorf("%d: %v", i, err)
		}
	}
	next.Start()
	if _, _, err := c.Answer(t.Context(), posted("x"), events.ReasonOpen); err != nil {
		t.Errorf("the larger capacity is in force, but %v", err)
	}
}

func TestQueueOptionsReportEveryFault(t *testing.T) {
	folder := t.TempDir()
	secret := base64.StdEncoding.EncodeToString(make([]byte, 31))
	bad, good := filepath.Join(folder, "bad"), filepath.Join(folder, "good")
	if err := errors.Join(os.WriteFile(bad, []byte("# x\n"+secret), 0o600),
		os.WriteFile(good, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(o *fallbacks.QueueOptions)
		want   map[string]string
	}{
		"by default": {func(*fallbacks.QueueOptions) {}, nil},
		"backoffs": {func(o *fallbacks.QueueOptions) { o.Backoff, o.MaxBackoff = 2*time.Second, time.Second },
			map[string]string{"max_backoff": "must be at least backoff (2s), got 1s"}},
		"a body with 204": {func(o *fallbacks.QueueOptions) { o.Status = 204 }, map[string]string{"body": "status 204 has no body"}},
		"none with 204":   {func(o *fallbacks.QueueOptions) { o.Status, o.Body = 204, nil }, nil},
		"names": {func(o *fallbacks.QueueOptions) {
			o.DropHeaders, o.RedactHeaders = []string{"ok", "not ok"}, []string{"", "a:b", "X-Fine"}
		}, map[string]string{"drop_headers[1]": `got "not ok"`, "redact_headers[0]": `got ""`, "redact_headers[1]": `got "a:b"`}},
		"one key for all": {func(o *fallbacks.QueueOptions) { o.RedactHeaders = []string{"idempotency-key"} },
			map[string]string{"redact_headers[0]": "must not be Idempotency-Key"}},
		"a missing key file": {func(o *fallbacks.QueueOptions) { o.Encryption.KeyFile = filepath.Join(folder, "none") }, map[string]string{"encryption.key_file": "no such file"}},
		"a faulty key file":  {func(o *fallbacks.QueueOptions) { o.Encryption.KeyFile = bad }, map[string]string{"encryption.key_file": bad + ":2: "}},
		"a key file":         {func(o *fallbacks.QueueOptions) { o.Encryption.KeyFile = good }, nil},
	} {
		o := queueOptions()
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
	o := queueOptions()
	o.Encryption.KeyFile = bad
	if _, err := fallbacks.NewChain([]string{"queue"}, map[string]any{"queue": o}, site(), nil); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a faulty key file: %v", err)
	}
}
