package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
)

// What is aimed at by the fallbacks that do something.
const (
	hitTarget    = 1.50  // of a static answer
	fillTarget   = 1.05  // of the same proxy without a cache
	acceptTarget = 5_000 // requests a second
	acceptP99    = 20    // milliseconds
)

// questionBytes is the body of a POST in the scenarios of fallbacks.
const questionBytes = 1024

// queue measures how many requests a dead upstream's queue accepts, each of them on the disk
// before its client has the answer.
func (b *bench) queue(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	dead, err := freeAddress()
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
	defer p.close()
	p.name = "cbproxy"
	f, err := b.measure(ctx, []*process{p}, load{
		request: request(path, questionBytes), requests: b.requests, connections: b.connections,
		status: http.StatusAccepted, length: len(`{"status":"queued"}`),
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
		err = fmt.Errorf("%.0f requests were accepted and %.0f wait", accepted, depth)
	}
	return scenario{
		Name: "queue", About: fmt.Sprintf("a dead upstream: POSTs of %d bytes accepted for later, on the disk", questionBytes), Contenders: f,
		Goals: []goal{
			{Name: "accepted a second", Figure: f[0].Throughput, Target: acceptTarget, Least: true},
			{Name: "p99, ms", Figure: f[0].P99 / 1000, Target: acceptP99},
			{Name: "accepted in all rounds", Figure: accepted},
			{Name: "commits, of 2 fsyncs each", Figure: commits},
			{Name: "accepted a commit", Figure: accepted / commits},
		},
	}, err
}

// metric reads one series of a cbproxy's metrics.
func metric(ctx context.Context, p *process, series string) (float64, error) {
	a, err := get(ctx, "http://"+p.admin+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(a.Body)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", p.name, series)
}

// kinds are the questions that a cache is asked.
var kinds = []struct {
	name string
	body int
}{{"GET", 0}, {"POST", questionBytes}}

// startBefore starts an upstream, and a cbproxy in front of it for each setting; they share one
// core, so that they can be compared at the same time. Those that were
// started are returned with an error as well; the upstream is not.
func (b *bench) startBefore(ctx context.Context, settings ...setting) (contenders []*process, up *process, err error) {
	up, _, err = b.startUpstream(ctx, otherCores)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range settings {
		s.target, s.pinned = up.address, true
		p, err := b.startCBProxy(ctx, s)
		if err != nil {
			up.close()
			return contenders, nil, err
		}
		contenders = append(contenders, p)
	}
	return contenders, up, nil
}

// hit measures an answer from the cache against a static one of the same body.
func (b *bench) hit(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	contenders, up, err := b.startBefore(ctx,
		setting{name: "static", fallback: fmt.Sprintf("{try: [static], static: {status: 200, body: %s}}", upstreamAnswer())},
		setting{name: "cache", fallback: "{try: [cache], cache: {ttl: 1h}}"})
	defer closeAll(contenders)
	if err != nil {
		return scenario{}, err
	}
	defer up.close()
	for _, k := range kinds { // the cache learns the answers
		if err := askOnce(ctx, contenders[1], request(path, k.body)); err != nil {
			return scenario{}, err
		}
	}
	up.close()
	for _, p := range contenders { // opens the breaker
		if err := askOnce(ctx, p, request(path, 0)); err != nil {
			return scenario{}, err
		}
	}
	s := scenario{Name: "hit", About: fmt.Sprintf("breaker open: %d bytes of JSON from the cache, and static", answerBytes)}
	err = b.compareKinds(ctx, &s, contenders, hitTarget, "")
	return s, err
}

// fill measures what it costs that a cache learns from a healthy upstream: the same answer again
// and again, and answers to ever new questions, which come and go all the time.
func (b *bench) fill(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	contenders, up, err := b.startBefore(ctx, setting{name: "without"}, setting{name: "cache", fallback: "{try: [cache], cache: {}}"})
	defer closeAll(contenders)
	if err != nil {
		return scenario{}, err
	}
	defer up.close()
	s := scenario{Name: "fill", About: "breaker closed: 1 KB of JSON from the upstream, with a cache that learns it and without"}
	for _, varied := range []string{"", "00000000"} {
		if err := b.compareKinds(ctx, &s, contenders, fillTarget, varied); err != nil {
			return s, err
		}
	}
	up.close() // what was asked last must be known now
	return s, askOnce(ctx, contenders[1], request(path+"00000000", questionBytes))
}

// compareKinds compares the second contender with the first, for each kind of question. varied
// is what is another number in each question, "" if all are alike.
func (b *bench) compareKinds(ctx context.Context, s *scenario, contenders []*process, target float64, varied string) error {
	for _, k := range kinds {
		f, err := b.measureAtOnce(ctx, contenders, load{
			request: request(path+varied, k.body), varied: []byte(varied), requests: b.requests, connections: b.connections,
			status: http.StatusOK, length: answerBytes,
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

// askOnce makes sure that p answers a request with what the upstream answers.
func askOnce(ctx context.Context, p *process, request []byte) error {
	l := load{address: p.address, request: request, requests: 1, connections: 1, status: http.StatusOK, length: answerBytes}
	r, err := l.run(ctx)
	if err := errors.Join(err, r.lastError); err != nil {
		return fmt.Errorf("ask %s: %w%s", p.name, err, p.said())
	}
	return nil
}
