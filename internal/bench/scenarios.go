package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"cbproxy/internal/bench/loadgen"
	"cbproxy/internal/bench/process"
)

// Targets: the largest ratio of a contender's cost to another's.
const (
	closedTarget  = 0.60 // of the CPU time of a bare reverse proxy
	caddyTarget   = 0.60 // of the CPU time of Caddy
	haproxyTarget = 2.00 // of the CPU time of HAProxy
	openTarget    = 1.10 // of the CPU time of a constant response
	latencyTarget = 0.50 // of the latency that a bare reverse proxy adds
)

// closed measures the cost of a request to a healthy upstream.
func (b *bench) closed(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	_, contenders, err := b.startProxies(ctx)
	defer closeAll(contenders)
	if err != nil {
		return scenario{}, err
	}
	f, err := b.measure(ctx, contenders[1:], loadgen.Load{
		Request: request(path, b.body), Requests: b.requests, Connections: b.connections,
		WarmUp: true, Status: http.StatusOK, Length: responseBytes,
	})
	if err != nil {
		return scenario{}, err
	}
	s := scenario{Name: "closed", About: "breaker closed: 1 KB of JSON from the upstream", Contenders: f}
	s.compare("cbproxy", "bare", closedTarget)
	s.compare("cbproxy", "caddy", caddyTarget)
	s.compare("cbproxy", "haproxy", haproxyTarget)
	return s, nil
}

// latency measures the latency that a proxy adds to sequential requests.
func (b *bench) latency(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	_, contenders, err := b.startProxies(ctx)
	defer closeAll(contenders)
	if err != nil {
		return scenario{}, err
	}
	f, err := b.measure(ctx, contenders, loadgen.Load{
		Request: request(path, b.body), Requests: b.requests / 4, Connections: 1,
		WarmUp: true, Status: http.StatusOK, Length: responseBytes,
	})
	if err != nil {
		return scenario{}, err
	}
	s := scenario{Name: "latency", About: "one connection, breaker closed, through each proxy and directly", Contenders: f}
	added := map[string][]float64{} // in each round
	for _, c := range f[1:] {
		rounds := make([]float64, len(c.samples))
		for i := range rounds {
			rounds[i] = micros(c.samples[i].p50 - f[0].samples[i].p50)
		}
		added[c.Name] = rounds
		s.Goals = append(s.Goals, goal{Name: "µs that " + c.Name + " adds, p50", Figure: median(rounds, identity)})
	}
	ratios := added["cbproxy"]
	for i, bare := range added["bare"] {
		ratios[i] /= bare
	}
	s.Goals = append(s.Goals, goal{Name: "added by cbproxy / bare, p50", Figure: median(ratios, identity), Target: latencyTarget})
	return s, nil
}

// identity returns x.
func identity(x float64) float64 { return x }

// open compares the fallback of an open breaker with a handler that returns the same response as a constant.
func (b *bench) open(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	dead, err := process.FreeAddress()
	if err != nil {
		return scenario{}, err
	}
	proxy, err := b.startCBProxy(ctx, setting{name: "cbproxy-open", target: dead})
	if err != nil {
		return scenario{}, err
	}
	defer proxy.Close()
	proxy.Name = "cbproxy"
	a, err := captureFallback(ctx, "http://"+proxy.Address+path)
	if err != nil {
		return scenario{}, fmt.Errorf("%w%s", err, proxy.Output())
	}
	constant, err := b.startConstant(ctx, a)
	if err != nil {
		return scenario{}, err
	}
	defer constant.Close()

	f, err := b.measure(ctx, []*process.Process{constant, proxy}, loadgen.Load{
		Request: request(path, b.body), Requests: b.requests, Connections: b.connections,
		WarmUp: true, Status: a.Status, Length: len(a.Body),
	})
	if err != nil {
		return scenario{}, err
	}
	s := scenario{
		Name:       "open",
		About:      fmt.Sprintf("breaker open: a fallback of %d bytes with %d header fields", len(a.Body), len(a.Header)+1),
		Contenders: f,
	}
	s.compare("cbproxy", "constant", openTarget)
	return s, nil
}

// churnConnections is larger than the default limit of idle connections that proxies keep per upstream.
const churnConnections = 256

// churn counts the connections that each proxy opens to the upstream for many busy clients.
func (b *bench) churn(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	counter, contenders, err := b.startProxies(ctx)
	defer closeAll(contenders)
	if err != nil {
		return scenario{}, err
	}
	s := scenario{
		Name:  "churn",
		About: fmt.Sprintf("connections the upstream accepted for %d busy clients and %d requests", churnConnections, b.requests/2),
	}
	for _, p := range contenders[1:] {
		before, err := accepted(ctx, counter)
		if err != nil {
			return scenario{}, err
		}
		_, err = b.sample(ctx, p, loadgen.Load{
			Address: p.Address, Request: request("/rag"+waitSuffix, b.body), Requests: b.requests / 2, Connections: churnConnections,
			Status: http.StatusOK, Length: responseBytes,
		})
		if err != nil {
			return scenario{}, err
		}
		after, err := accepted(ctx, counter)
		if err != nil {
			return scenario{}, err
		}
		s.Accepted = append(s.Accepted, count{Name: p.Name, Connections: after - before})
	}
	return s, nil
}

// startProxies starts the upstream and the proxies in front of it, and returns them in that order with the address of
// the upstream's counter. It returns those that were started even if there is an error.
func (b *bench) startProxies(ctx context.Context) (counter string, all []*process.Process, err error) {
	origin, counter, err := b.startUpstream(ctx, process.AllCores)
	if err != nil {
		return "", nil, err
	}
	all, target := []*process.Process{origin}, origin.Address
	starts := []func() (*process.Process, error){
		func() (*process.Process, error) { return b.startBare(ctx, target) },
		func() (*process.Process, error) { return b.startCBProxy(ctx, setting{name: "cbproxy", target: target}) },
	}
	if b.caddy != "" {
		starts = append(starts, func() (*process.Process, error) { return b.startCaddy(ctx, target) })
	}
	if b.haproxy {
		starts = append(starts, func() (*process.Process, error) { return b.startHAProxy(ctx, target) })
	}
	if b.nginx {
		starts = append(starts, func() (*process.Process, error) { return b.startNginx(ctx, target) })
	}
	for _, f := range starts {
		p, err := f()
		if err != nil {
			return "", all, err
		}
		all = append(all, p)
	}
	return counter, all, nil
}

// startUpstream starts the upstream on the given cores, and returns it with the address of its counter.
func (b *bench) startUpstream(ctx context.Context, cores string) (p *process.Process, counter string, err error) {
	target, err := process.FreeAddress()
	if err != nil {
		return nil, "", err
	}
	if counter, err = process.FreeAddress(); err != nil {
		return nil, "", err
	}
	p, err = process.Start(ctx, b.dir, "upstream", target, process.OnCores(cores, b.self, "upstream", target, counter)...)
	return p, counter, err
}

// closeAll ends processes.
func closeAll(all []*process.Process) {
	for _, p := range all {
		p.Close()
	}
}

// accepted returns the number of connections that the upstream has accepted.
func accepted(ctx context.Context, counter string) (int, error) {
	a, err := get(ctx, "http://"+counter)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(a.Body))
}

// startConstant starts a server that responds with a, and checks that its response is identical.
func (b *bench) startConstant(ctx context.Context, a response) (*process.Process, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "response.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return nil, err
	}
	p, err := process.Start(ctx, b.dir, "constant", address, b.self, "constant", address, file)
	if err != nil {
		return nil, err
	}
	got, err := get(ctx, "http://"+address+path)
	if err == nil && !got.equal(a) {
		err = fmt.Errorf("the constant response differs from cbproxy's: got %v, want %v", got, a)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// response is a complete response without its Date field, which the server sets.
type response struct {
	Status int
	Header http.Header
	Body   []byte
}

// equal reports whether both responses are the same.
func (r response) equal(other response) bool {
	x, errX := json.Marshal(r)
	y, errY := json.Marshal(other)
	return errX == nil && errY == nil && string(x) == string(y)
}

// get requests url over a new connection.
func get(ctx context.Context, url string) (response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return response{}, err
	}
	t := &http.Transport{DisableCompression: true}
	defer t.CloseIdleConnections()
	res, err := t.RoundTrip(req)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = res.Body.Close() }() // the body is read to its end, or ReadAll returns an error
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return response{}, fmt.Errorf("read the response of %s: %w", url, err)
	}
	res.Header.Del("Date")
	return response{Status: res.StatusCode, Header: res.Header, Body: body}, nil
}

// captureFallback sends requests until the breaker is open, and returns the fallback.
func captureFallback(ctx context.Context, url string) (response, error) {
	var a response
	for range 10 {
		var err error
		if a, err = get(ctx, url); err != nil {
			return a, fmt.Errorf("request the fallback: %w", err)
		}
		if strings.EqualFold(a.Header.Get("X-Circuit-Breaker-State"), "open") && a.Header.Get("X-Fallback-Reason") == "open" {
			return a, nil
		}
	}
	return a, fmt.Errorf("request the fallback: the breaker did not open within 10 requests to a dead upstream; the last response was %d %v", a.Status, a.Header)
}
