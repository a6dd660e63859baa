package proxy_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"cbproxy/fallbacks"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// parse returns the configuration in a YAML text. A text that sets no transport gets httpMode for each route.
func parse(t testing.TB, text string) *routes.Config {
	t.Helper()
	c, err := routes.Loader{Path: "test.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options(), Algorithms: algorithm.Options()}.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "transport:") {
		for _, r := range c.Routes {
			r.Transport = httpMode
		}
	}
	return c
}

// routeConfig returns a configuration with one service, svc, that has no fallback. Each of keys is a further line of the route.
func routeConfig(upstream string, keys ...string) string {
	text := "routes:\n  svc:\n    prefix: /svc\n    upstream: " + upstream + "\n"
	for _, line := range keys {
		text += "    " + line + "\n"
	}
	return text
}

// proxyOptions are the optional settings of startProxy.
type proxyOptions struct {
	logger   *slog.Logger     // nil: discards the log
	access   events.AccessLog // nil: requests are not logged
	tracer   events.Tracer    // nil: requests are not traced
	instance string
}

// testProxy is a proxy that serves a listener until the test ends.
type testProxy struct {
	*proxy.Server
	address  string
	recorded *recorder
	http     *httpserver.Server
	served   <-chan error // receives the result of http.Serve and is closed
}

// startProxy starts a proxy with the configuration in text, in which SELF stands for the proxy's own address.
func startProxy(t testing.TB, text string, o proxyOptions) *testProxy {
	t.Helper()
	if o.logger == nil {
		o.logger = slog.New(slog.DiscardHandler)
	}
	listener, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &testProxy{address: listener.Addr().String(), recorded: newRecorder()}
	p.Server = proxy.New(proxy.Config{
		Bus: new(events.Bus), Observers: p.recorded, Access: o.access, Tracer: o.tracer, Logger: o.logger, Instance: o.instance,
	})
	c := parse(t, strings.ReplaceAll(text, "SELF", p.address))
	if err := p.Apply(c); err != nil {
		t.Fatal(err)
	}
	c.Server = httpMode
	p.http = proxy.NewHTTPServer(p.Server, "", c, o.logger)
	served := make(chan error, 1)
	p.served = served
	go func() { defer close(served); served <- p.http.Serve(listener) }()
	t.Cleanup(func() { _ = p.http.Close(); <-served; p.Close() })
	return p
}

// start starts a proxy with the configuration in text and the default options.
func start(t testing.TB, text string) (server *proxy.Server, address string, recorded *recorder) {
	t.Helper()
	p := startProxy(t, text, proxyOptions{})
	return p.Server, p.address, p.recorded
}

// startInstance is start for a proxy with an instance name, and a configuration in which SELF stands for its own address.
func startInstance(t testing.TB, instance, text string) (server *proxy.Server, address string, recorded *recorder) {
	t.Helper()
	p := startProxy(t, text, proxyOptions{instance: instance})
	return p.Server, p.address, p.recorded
}

// get sends a GET request and returns the response and its body.
func get(t testing.TB, url string) (*http.Response, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}
