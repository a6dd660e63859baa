package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"cbproxy/internal/bench/loadgen"
	"cbproxy/internal/bench/process"
)

// Targets of the scenarios queue, hit and fill.
const (
	hitTarget    = 1.50  // of the CPU time of a static fallback
	fillTarget   = 1.05  // of the CPU time without a cache
	acceptTarget = 5_000 // requests per second
	acceptP99    = 20    // milliseconds
)

// bodyBytes is the size of a POST's body in the fallback scenarios.
const bodyBytes = 1024

// queue measures how many requests per second the queue of a dead upstream accepts. Each is on disk before its client gets
// the response.
func (b *bench) queue(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	dead, err := process.FreeAddress()
	if err != nil {
		return scenario{}, err
	}
	p, err := b.startCBProxy(ctx, setting{
		name: "cbproxy-queue", target: dead, dataDir: filepath.Join(b.dir, "queued"),
		fallback: `{try: [queue], queue: {capacity: 100000000, body: {status: queued}}}`,
	})
	if err != nil {
		return scenario{}, err
	}
	defer p.Close()
	p.Name = "cbproxy"
	f, err := b.measure(ctx, []*process.Process{p}, loadgen.Load{
		Request: request(path, bodyBytes), Requests: b.requests, Connections: b.connections,
		Status: http.StatusAccepted, Length: len(`{"status":"queued"}`),
	})
	if err != nil {
		return scenario{}, err
	}
	accepted, err := metric(ctx, p, `cbproxy_queue_accepted_total{service="rag_service"}`)
	if err != nil {
		return scenario{}, err
	}
	commits, err := metric(ctx, p, "cbproxy_queue_commits_total")
	if err != nil {
		return scenario{}, err
	}
	depth, err := metric(ctx, p, `cbproxy_queue_depth{service="rag_service"}`)
	if err == nil && depth != accepted {
		err = fmt.Errorf("%.0f requests were accepted, but %.0f are queued", accepted, depth)
	}
	return scenario{
		Name: "queue", About: fmt.Sprintf("a dead upstream: POSTs of %d bytes queued on disk", bodyBytes), Contenders: f,
		Goals: []goal{
			{Name: "accepted per second", Figure: f[0].Throughput, Target: acceptTarget, Least: true},
			{Name: "p99, ms", Figure: f[0].P99 / 1000, Target: acceptP99},
			{Name: "accepted in all rounds", Figure: accepted},
			{Name: "commits, of 2 fsyncs each", Figure: commits},
			{Name: "accepted per commit", Figure: accepted / commits},
		},
	}, err
}

// metric reads the value of one series from a cbproxy's metrics.
func metric(ctx context.Context, p *process.Process, series string) (float64, error) {
	a, err := get(ctx, "http://"+p.Admin+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(a.Body)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", p.Name, series)
}

// requestKinds are the requests that the cache scenarios send.
var requestKinds = []struct {
	name string
	body int
}{{"GET", 0}, {"POST", bodyBytes}}

// startWithUpstream starts an upstream, and a cbproxy for each setting in front of it. The proxies share one core, so that they
// can be measured at the same time. With an error it returns the proxies that were started, but not the upstream.
func (b *bench) startWithUpstream(ctx context.Context, settings ...setting) (contenders []*process.Process, up *process.Process, err error) {
	up, _, err = b.startUpstream(ctx, process.OtherCores)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range settings {
		s.target, s.pinned = up.Address, true
		p, err := b.startCBProxy(ctx, s)
		if err != nil {
			up.Close()
			return contenders, nil, err
		}
		contenders = append(contenders, p)
	}
	return contenders, up, nil
}

// hit compares a response from the cache with a static one with the same body.
func (b *bench) hit(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	contenders, up, err := b.startWithUpstream(ctx,
		setting{name: "static", fallback: fmt.Sprintf("{try: [static], static: {status: 200, body: %s}}", upstreamBody())},
		setting{name: "cache", fallback: "{try: [cache], cache: {ttl: 1h}}"})
	defer closeAll(contenders)
	if err != nil {
		return scenario{}, err
	}
	defer up.Close()
	for _, k := range requestKinds { // fills the cache
		if err := checkResponse(ctx, contenders[1], request(path, k.body)); err != nil {
			return scenario{}, err
		}
	}
	up.Close()
	for _, p := range contenders { // opens the breaker
		if err := checkResponse(ctx, p, request(path, 0)); err != nil {
			return scenario{}, err
		}
	}
	s := scenario{Name: "hit", About: fmt.Sprintf("breaker open: %d bytes of JSON from the cache, and static", responseBytes)}
	err = b.compareKinds(ctx, &s, contenders, hitTarget, "")
	return s, err
}

// fill measures the cost of storing the responses of a healthy upstream in the cache: for a repeated request, and for
// requests that never repeat and evict each other.
func (b *bench) fill(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	contenders, up, err := b.startWithUpstream(ctx, setting{name: "without"}, setting{name: "cache", fallback: "{try: [cache], cache: {}}"})
	defer closeAll(contenders)
	if err != nil {
		return scenario{}, err
	}
	defer up.Close()
	s := scenario{Name: "fill", About: "breaker closed: 1 KB of JSON from the upstream, with and without a cache that stores it"}
	for _, varied := range []string{"", "00000000"} {
		if err := b.compareKinds(ctx, &s, contenders, fillTarget, varied); err != nil {
			return s, err
		}
	}
	up.Close() // the last response must be in the cache
	return s, checkResponse(ctx, contenders[1], request(path+"00000000", bodyBytes))
}

// compareKinds compares the second contender with the first for each kind of request. varied is the part of the
// request that is a different number each time, "" if all are identical.
func (b *bench) compareKinds(ctx context.Context, s *scenario, contenders []*process.Process, target float64, varied string) error {
	for _, k := range requestKinds {
		f, err := b.measureAtOnce(ctx, contenders, loadgen.Load{
			Request: request(path+varied, k.body), Varied: []byte(varied), Requests: b.requests, Connections: b.connections,
			Status: http.StatusOK, Length: responseBytes,
		})
		if err != nil {
			return err
		}
		for i := range f {
			f[i].Name += " " + k.name
			if varied != "" {
				f[i].Name += " new"
			}
		}
		s.Contenders = append(s.Contenders, f...)
		s.compare(f[1].Name, f[0].Name, target)
	}
	return nil
}

// checkResponse sends one request to p and checks that the response is the upstream's.
func checkResponse(ctx context.Context, p *process.Process, request []byte) error {
	l := loadgen.Load{Address: p.Address, Request: request, Requests: 1, Connections: 1, Status: http.StatusOK, Length: responseBytes}
	r, err := l.Run(ctx)
	if err := errors.Join(err, r.LastError); err != nil {
		return fmt.Errorf("send a request to %s: %w%s", p.Name, err, p.Output())
	}
	return nil
}
