package fallbacktest

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/tlsfiles"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// Process provides the environment of strategies that send requests: it has connections and a log.
type Process struct {
	Log Log
	// Pools counts the pools of connections that strategies have requested.
	Pools atomic.Int64
}

// NewProcess returns a Process.
func NewProcess() *Process { return &Process{Log: make(Log, 100)} }

// Env returns an environment for the service svc.
func (p *Process) Env() fallbacks.Env {
	return fallbacks.Env{Service: "svc", Logger: slog.New(slog.NewTextHandler(p.Log, nil)), Transport: p.transport}
}

// transport returns a transport with the same observable behaviour as the proxy's.
func (p *Process) transport(u routes.Upstream, config routes.TLS) (fallbacks.Transport, error) {
	p.Pools.Add(1)
	c := upstream.Config{URL: u.URL}
	if config.CAFile != "" {
		authorities, err := tlsfiles.LoadCertPool(config.CAFile)
		if err != nil {
			return nil, err
		}
		c.TLS = func() *tls.Config { return &tls.Config{RootCAs: authorities, ServerName: config.ServerName} }
	}
	return upstream.New(c), nil
}

// NewChain returns a chain with only the given strategy, not started. previous may be nil.
func (p *Process) NewChain(t testing.TB, strategy string, options any, previous *fallbacks.Chain) *fallbacks.Chain {
	t.Helper()
	c, err := fallbacks.NewChain([]string{strategy}, map[string]any{strategy: options}, p.Env(), previous)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// StartChain returns a chain with only the given strategy. The chain is closed when the test ends.
func (p *Process) StartChain(t testing.TB, strategy string, options any) *fallbacks.Chain {
	t.Helper()
	c := p.NewChain(t, strategy, options, nil)
	c.Start()
	t.Cleanup(c.Close)
	return c
}

// Log is a log whose lines tests can wait for.
type Log chan string

// Write implements io.Writer. It never blocks: without a reader, lines are dropped.
func (l Log) Write(line []byte) (int, error) {
	select {
	case l <- string(line):
	default:
	}
	return len(line), nil
}

// Await returns the next line that contains all parts.
func (l Log) Await(t testing.TB, parts ...string) string {
	t.Helper()
	timeout := time.After(10 * time.Second)
next:
	for {
		select {
		case line := <-l:
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue next
				}
			}
			return line
		case <-timeout:
			t.Fatalf("no line with %q", parts)
		}
	}
}

// ParseUpstream returns a URL in the form that options have.
func ParseUpstream(t testing.TB, text string) routes.Upstream {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return routes.Upstream{URL: u}
}

// NewGET returns a client's request for /svc/x, which is sent upstream as /x.
func NewGET() *Client {
	return &Client{Req: fallbacks.Request{Service: "svc", Method: "GET", Host: "client.example", Path: "/svc/x", Rest: "/x", Header: http.Header{}}}
}

// Answer returns c's answer to r for the reason "open".
func Answer(t testing.TB, c *fallbacks.Chain, r *Client) (*fallbacks.Answer, error) {
	t.Helper()
	a, _, err := c.Answer(t.Context(), r, "open")
	return a, err
}

// ParseFallback returns the configuration with a service x_service whose fallback is the YAML text.
func ParseFallback(text string) (*routes.Config, error) {
	l := routes.Loader{Path: "c.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options()}
	return l.Parse([]byte("routes: {x_service: {prefix: /x, upstream: 'http://a'}}\nfallbacks:\n  x_service:\n    " + strings.ReplaceAll(text, "\n", "\n    ")))
}
