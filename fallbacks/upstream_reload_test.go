package fallbacks_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/routes"
)

func TestUpstreamSurvivesReloads(t *testing.T) {
	s := serveCounted(t, func(http.ResponseWriter, *http.Request) {})
	p := newPlace()
	ask := func(c *fallbacks.Chain) {
		t.Helper()
		if _, err := answer(t, c, get()); err != nil {
			t.Fatal(err)
		}
	}
	options := func(failMax int) *fallbacks.UpstreamOptions {
		o := upstreamOptions(t, s.url)
		o.Breaker.FailMax = failMax
		return o
	}
	first := p.build(t, "upstream", options(5), nil)
	first.Start()
	ask(first)
	p.build(t, "upstream", options(7), first) // never comes into force
	second := p.build(t, "upstream", options(1), first)
	if breakerOf(first) != breakerOf(second) || breakerOf(first).Policy().FailMax != 5 {
		t.Fatalf("before the start: fail_max %d", breakerOf(first).Policy().FailMax)
	}
	second.Start()
	ask(second)
	ask(first)
	first.Close()
	ask(second)
	if s.opened.Load() != 1 || p.transports.Load() != 1 {
		t.Errorf("%d connections of %d transports", s.opened.Load(), p.transports.Load())
	}
	if breakerOf(second).Policy().FailMax != 1 {
		t.Errorf("fail_max %d after the start", breakerOf(second).Policy().FailMax)
	}

	s.failing.Store(true)
	_, _ = answer(t, second, get())
	p.log.await(t, "to=open") // the log went on
	third := p.build(t, "upstream", options(1), second)
	third.Start()
	second.Close()
	if _, err := answer(t, third, get()); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("after a reload: %v", err)
	}

	for len(s.closed) > 0 {
		<-s.closed
	}
	s.failing.Store(false)
	breakerOf(third).Force(events.Closed, 0, "test")
	ask(third)
	third.Close()
	await(t, s.closed, "closing of the idle connection")
	if strings.Contains(stacks(), "logChanges") {
		t.Error("the log goes on")
	}
}

func TestUpstreamIsReloadedUnderTraffic(t *testing.T) {
	s := serveCounted(t, func(http.ResponseWriter, *http.Request) {})
	p := newPlace()
	current := p.build(t, "upstream", upstreamOptions(t, s.url), nil)
	current.Start()
	var inForce sync.RWMutex // guards current; held by each request, so that nothing is closed under one
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				inForce.RLock()
				if _, _, err := current.Answer(t.Context(), get(), events.ReasonOpen); err != nil {
					t.Error(err)
				}
				inForce.RUnlock()
			}
		})
	}
	for i := range 20 {
		o := upstreamOptions(t, s.url)
		o.Breaker.FailMax = 1 + i
		next := p.build(t, "upstream", o, current)
		next.Start()
		inForce.Lock()
		old := current
		current = next
		inForce.Unlock()
		old.Close()
	}
	stop()
	clients.Wait()
	if policy := breakerOf(current).Policy(); policy.FailMax != 20 || p.transports.Load() != 1 {
		t.Errorf("fail_max %d, %d transports", policy.FailMax, p.transports.Load())
	}
	current.Close()
}

func TestUpstreamThatIsAnotherStartsAnew(t *testing.T) {
	for name, test := range map[string]struct {
		change     func(*fallbacks.UpstreamOptions)
		breaker    bool // is kept
		transports int64
	}{
		"timeout": {func(o *fallbacks.UpstreamOptions) { o.Timeout = time.Minute }, true, 1},
		"path":    {func(o *fallbacks.UpstreamOptions) { o.URL.Path = "/b" }, false, 1},
		"host":    {func(o *fallbacks.UpstreamOptions) { o.URL.Host = "b" }, false, 2},
		"scheme":  {func(o *fallbacks.UpstreamOptions) { o.URL.Scheme = "http" }, false, 2},
		"TLS":     {func(o *fallbacks.UpstreamOptions) { o.TLS.ServerName = "b" }, true, 2},
		"breaker": {func(o *fallbacks.UpstreamOptions) { o.Breaker.FailMax = 9 }, true, 1},
	} {
		p := newPlace()
		before := p.start(t, "upstream", upstreamOptions(t, "https://a/a"))
		o := upstreamOptions(t, "https://a/a")
		test.change(o)
		after := p.build(t, "upstream", o, before)
		if kept := breakerOf(before) == breakerOf(after); kept != test.breaker || p.transports.Load() != test.transports {
			t.Errorf("%s: breaker kept: %v, %d transports", name, kept, p.transports.Load())
		}
	}
}

func TestUpstreamThatNeverStartsLeavesNothing(t *testing.T) {
	p := newPlace()
	for range 3 {
		p.build(t, "upstream", upstreamOptions(t, "http://a"), nil)
	}
	if strings.Contains(stacks(), "logChanges") {
		t.Error("there is a goroutine")
	}
}

func parseOptions(text string) (*routes.Config, error) {
	l := routes.Loader{Path: "c.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options()}
	return l.Parse([]byte("routes: {x_service: {prefix: /x, upstream: 'http://a'}}\nfallbacks:\n  x_service:\n    " + strings.ReplaceAll(text, "\n", "\n    ")))
}

// A second upstream or an endpoint that is the proxy itself is refused, as a route's upstream is.
func TestServersThatAreTheProxyItselfAreRefused(t *testing.T) {
	for text, place := range map[string]string{
		"try: [upstream]\nupstream: {url: 'http://localhost:8080/v1'}": "fallbacks.x_service.upstream.url",
		"try: [http]\nhttp: {url: 'http://127.0.0.1:8080/answer'}":     "fallbacks.x_service.http.url",
		"try: [http]\nhttp: {url: 'http://127.0.0.1:8081/answer'}":     "",
	} {
		_, err := parseOptions(text)
		if place == "" && err != nil || place != "" && (err == nil || !strings.Contains(err.Error(), place+": must not be the proxy's own listen address (127.0.0.1:8080)")) {
			t.Errorf("%q: %v, want a fault at %q", text, err, place)
		}
	}
}

func TestUpstreamOptionsAreReadFromTheConfiguration(t *testing.T) {
	c, err := parseOptions("try: [upstream]\nupstream: {url: 'h2c://b:81/v1/', tls: {server_name: c}, breaker: {failure_statuses: [429, 5xx]}}")
	if err != nil {
		t.Fatal(err)
	}
	o := c.Fallbacks["x_service"].Strategies["upstream"].(*fallbacks.UpstreamOptions)
	got := fmt.Sprintln(o.URL, o.Timeout, o.MaxBody, o.MaxResponse, o.PreserveHost, o.TLS.ServerName,
		o.Breaker.FailMax, o.Breaker.RecoveryTimeout, o.Breaker.HalfOpenRequests, o.Breaker.FailureStatuses)
	if want := "h2c://b:81/v1 10s 1MiB 8MiB false c 5 30s 1 429, 5xx\n"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if d := fallbacks.Options()["upstream"]().(*fallbacks.UpstreamOptions); d.Breaker.FailureStatuses.String() != "5xx" {
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
		if _, err := parseOptions(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
