package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	"cbproxy/fallbacks/upstream"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

func TestReloadKeepsConnectionsAndBreaker(t *testing.T) {
	s := fallbacktest.Serve(t, func(http.ResponseWriter, *http.Request) {})
	p := fallbacktest.NewProcess()
	get := func(c *fallbacks.Chain) {
		t.Helper()
		if _, err := fallbacktest.Answer(t, c, fallbacktest.NewGET()); err != nil {
			t.Fatal(err)
		}
	}
	options := func(failMax int) *upstream.Options {
		o := newOptions(t, s.URL)
		o.Breaker.FailMax = failMax
		return o
	}
	first := p.NewChain(t, "upstream", options(5), nil)
	first.Start()
	get(first)
	p.NewChain(t, "upstream", options(7), first) // never takes effect
	second := p.NewChain(t, "upstream", options(1), first)
	if breakerOf(first) != breakerOf(second) || breakerOf(first).Policy().FailMax != 5 {
		t.Fatalf("before Start: fail_max %d", breakerOf(first).Policy().FailMax)
	}
	second.Start()
	get(second)
	get(first)
	first.Close()
	get(second)
	if s.Opened.Load() != 1 || p.Pools.Load() != 1 {
		t.Errorf("%d connections of %d pools", s.Opened.Load(), p.Pools.Load())
	}
	if breakerOf(second).Policy().FailMax != 1 {
		t.Errorf("after Start: fail_max %d", breakerOf(second).Policy().FailMax)
	}

	s.Failing.Store(true)
	_, _ = fallbacktest.Answer(t, second, fallbacktest.NewGET())
	p.Log.Await(t, "to=open") // the log still runs
	third := p.NewChain(t, "upstream", options(1), second)
	third.Start()
	second.Close()
	if _, err := fallbacktest.Answer(t, third, fallbacktest.NewGET()); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("after a reload: %v", err)
	}

	for len(s.Closed) > 0 {
		<-s.Closed
	}
	s.Failing.Store(false)
	breakerOf(third).Force(events.Closed, 0, "test")
	get(third)
	third.Close()
	s.AwaitClosed(t)
	if strings.Contains(stacks(), "logChanges") {
		t.Error("the log still runs")
	}
}

func TestReloadUnderTraffic(t *testing.T) {
	s := fallbacktest.Serve(t, func(http.ResponseWriter, *http.Request) {})
	p := fallbacktest.NewProcess()
	current := p.NewChain(t, "upstream", newOptions(t, s.URL), nil)
	current.Start()
	var mu sync.RWMutex // guards current; held during each request, so that its chain is not closed
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				mu.RLock()
				if _, _, err := current.Answer(t.Context(), fallbacktest.NewGET(), events.ReasonOpen); err != nil {
					t.Error(err)
				}
				mu.RUnlock()
			}
		})
	}
	for i := range 20 {
		o := newOptions(t, s.URL)
		o.Breaker.FailMax = 1 + i
		next := p.NewChain(t, "upstream", o, current)
		next.Start()
		mu.Lock()
		old := current
		current = next
		mu.Unlock()
		old.Close()
	}
	stop()
	clients.Wait()
	if policy := breakerOf(current).Policy(); policy.FailMax != 20 || p.Pools.Load() != 1 {
		t.Errorf("fail_max %d, %d pools", policy.FailMax, p.Pools.Load())
	}
	current.Close()
}

func TestReloadWithAnotherServer(t *testing.T) {
	for name, test := range map[string]struct {
		change     func(*upstream.Options)
		breaker    bool // the breaker is kept
		transports int64
	}{
		"timeout": {func(o *upstream.Options) { o.Timeout = time.Minute }, true, 1},
		"path":    {func(o *upstream.Options) { o.URL.Path = "/b" }, false, 1},
		"host":    {func(o *upstream.Options) { o.URL.Host = "b" }, false, 2},
		"scheme":  {func(o *upstream.Options) { o.URL.Scheme = "http" }, false, 2},
		"TLS":     {func(o *upstream.Options) { o.TLS.ServerName = "b" }, true, 2},
		"breaker": {func(o *upstream.Options) { o.Breaker.FailMax = 9 }, true, 1},
	} {
		p := fallbacktest.NewProcess()
		before := p.StartChain(t, "upstream", newOptions(t, "https://a/a"))
		o := newOptions(t, "https://a/a")
		test.change(o)
		after := p.NewChain(t, "upstream", o, before)
		if kept := breakerOf(before) == breakerOf(after); kept != test.breaker || p.Pools.Load() != test.transports {
			t.Errorf("%s: breaker kept: %v, %d pools", name, kept, p.Pools.Load())
		}
	}
}

func TestUnstartedStrategyHasNoGoroutine(t *testing.T) {
	p := fallbacktest.NewProcess()
	for range 3 {
		p.NewChain(t, "upstream", newOptions(t, "http://a"), nil)
	}
	if strings.Contains(stacks(), "logChanges") {
		t.Error("a goroutine runs")
	}
}

// A second upstream or an endpoint must not be the proxy itself, like the upstream of a route.
func TestOwnAddressIsRejected(t *testing.T) {
	for text, place := range map[string]string{
		"try: [upstream]\nupstream: {url: 'http://localhost:8080/v1'}": "fallbacks.x_service.upstream.url",
		"try: [http]\nhttp: {url: 'http://127.0.0.1:8080/answer'}":     "fallbacks.x_service.http.url",
		"try: [http]\nhttp: {url: 'http://127.0.0.1:8081/answer'}":     "",
	} {
		_, err := fallbacktest.ParseFallback(text)
		if place == "" && err != nil || place != "" && (err == nil || !strings.Contains(err.Error(), place+": must not be the proxy's own listen address (127.0.0.1:8080)")) {
			t.Errorf("%q: %v, want an error at %q", text, err, place)
		}
	}
}

func TestOptionsFromConfiguration(t *testing.T) {
	c, err := fallbacktest.ParseFallback("try: [upstream]\nupstream: {url: 'h2c://b:81/v1/', tls: {server_name: c}, breaker: {failure_statuses: [429, 5xx]}}")
	if err != nil {
		t.Fatal(err)
	}
	o := c.Fallbacks["x_service"].Strategies["upstream"].(*upstream.Options)
	got := fmt.Sprintln(o.URL, o.Timeout, o.MaxBody, o.MaxResponse, o.PreserveHost, o.TLS.ServerName,
		o.Breaker.FailMax, o.Breaker.RecoveryTimeout, o.Breaker.HalfOpenRequests, o.Breaker.FailureStatuses)
	if want := "h2c://b:81/v1 10s 1MiB 8MiB false c 5 30s 1 429, 5xx\n"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if d := upstream.DefaultOptions(); d.Breaker.FailureStatuses.String() != "5xx" {
		t.Errorf("failure_statuses by default: %v", d.Breaker.FailureStatuses)
	}
	for text, want := range map[string]string{
		"try: [upstream]": "upstream.url: must be given",
		"try: [upstream]\nupstream: {url: 'ftp://a'}":                                        "upstream.url: must be an http",
		"try: [upstream]\nupstream: {url: 'http://a', timeout: 0}":                           "upstream.timeout: must be positive",
		"try: [upstream]\nupstream: {url: 'http://a', max_body: 1GiB}":                       "upstream.max_body: must be from",
		"try: [upstream]\nupstream: {url: 'http://a', breaker: {fail_max: 0}}":               "upstream.breaker.fail_max: must be from",
		"try: [upstream]\nupstream: {url: 'http://a', breaker: {mode: off}}":                 "upstream.breaker.mode: unknown key",
		"try: [upstream]\nupstream: {url: 'https://a', tls: {ca_file: /missing}}":            "c.yaml:5:40: fallbacks.x_service.upstream.tls.ca_file: must be a PEM file",
		"try: [upstream]\nupstream: {url: 'https://a', tls: {cert_file: a}}":                 "upstream.tls.key_file: must be given with cert_file",
		"try: [upstream]\nupstream: {url: 'https://a', tls: {key_file: a}}":                  "upstream.tls.cert_file: must be given with key_file",
		"try: [upstream]\nupstream: {url: 'https://a', tls: {cert_file: /no, key_file: /n}}": "upstream.tls.cert_file: must be a PEM file",
	} {
		if _, err := fallbacktest.ParseFallback(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// stacks returns the stacks of all goroutines.
func stacks() string {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
	return b.String()
}
