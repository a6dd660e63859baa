package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// bench holds what all scenarios need.
type bench struct {
	options
	dir     string // temporary; binaries, configurations and logs
	self    string // this binary
	cbproxy string
	caddy   string // "" if it couldn't be built
	haproxy bool   // it is there
	nginx   bool   // likewise
	notes   []string
}

// newBench builds the contenders.
func newBench(ctx context.Context, o options) (*bench, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "cbproxy-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, self: self}
	if err := b.build(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) build(ctx context.Context) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	if b.cbproxy, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	if b.binary == "" {
		b.cbproxy = filepath.Join(b.dir, "cbproxy")
		if err := goBuild(ctx, b.cbproxy, "build", "-C", root, "-o", b.cbproxy, "./cmd/cbproxy"); err != nil {
			return err
		}
	}
	caddy := filepath.Join(b.dir, "caddy")
	if err := goBuild(ctx, caddy, "build", "-C", filepath.Join(root, "internal/bench/caddy"), "-o", caddy, "."); err != nil {
		b.notes = append(b.notes, "Caddy is left out: "+err.Error())
		caddy = ""
	}
	b.caddy = caddy
	b.haproxy, b.nginx = b.has("haproxy"), b.has("nginx")
	return ctx.Err()
}

// has reports whether a peer is there, or notes that it is not.
func (b *bench) has(peer string) bool {
	_, err := exec.LookPath(peer)
	if err != nil {
		b.notes = append(b.notes, peer+" is left out: "+err.Error())
	}
	return err == nil
}

// close removes what newBench made.
func (b *bench) close() { _ = os.RemoveAll(b.dir) } // a leftover in the temporary folder harms nobody

// path is requested from every contender: cbproxy knows its route by it, the
// others pass it on.
const path = "/rag/answers?question=why"

// request returns the bytes of a request as a plain HTTP client sends them: a GET, or a POST if
// it is to have a body.
func request(path string, body int) []byte {
	method, extra := "GET", ""
	if body > 0 {
		method = "POST"
		extra = fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", body)
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: application/json\r\n%s\r\n%s",
		method, path, extra, strings.Repeat("x", body))
}

// measure sends every contender its load, round by round, and returns their
// medians in order. A round begins with another contender each time, so that
// none profits from its place.
func (b *bench) measure(ctx context.Context, contenders []*process, l load) ([]figures, error) {
	all := make([][]sample, len(contenders))
	for round := range b.rounds + 1 {
		for i := range contenders {
			i = (i + round) % len(contenders)
			one := l
			one.address = contenders[i].address
			if round == 0 {
				one.requests = max(l.requests/5, l.connections) // fills pools and caches; not counted
			}
			s, err := b.sample(ctx, contenders[i], one)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				all[i] = append(all[i], s)
			}
		}
	}
	return summaries(contenders, all), nil
}

func summaries(contenders []*process, samples [][]sample) []figures {
	f := make([]figures, len(contenders))
	for i, p := range contenders {
		f[i] = summarize(p.name, samples[i])
	}
	return f
}

// measureAtOnce is measure with all contenders under load at the same time, each by its share of the
// connections: what slows the machine slows all of them alike, and small differences show.
func (b *bench) measureAtOnce(ctx context.Context, contenders []*process, l load) ([]figures, error) {
	if err := moveTo(ctx, otherCores); err != nil {
		return nil, err
	}
	defer func() { _ = moveTo(context.WithoutCancel(ctx), allCores) }() // or the next scenario says what is wrong
	l.connections = max(1, l.connections/len(contenders))
	all := make([][]sample, len(contenders))
	for round := range b.rounds + 1 {
		samples, errs := make([]sample, len(contenders)), make([]error, len(contenders))
		var running sync.WaitGroup
		for i, p := range contenders {
			running.Go(func() {
				one := l
				one.address = p.address
				samples[i], errs[i] = b.sample(ctx, p, one)
			})
		}
		running.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		if round == 0 {
			continue // fills pools and caches
		}
		for i, s := range samples {
			all[i] = append(all[i], s)
		}
	}
	return summaries(contenders, all), nil
}

// sample is one contender's figures in one round.
type sample struct {
	cpu        time.Duration // a request
	throughput float64       // requests a second
	p50, p99   time.Duration
	errors     int
}

func (b *bench) sample(ctx context.Context, p *process, l load) (sample, error) {
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	l.begin = func() { before, err = p.cpu() }
	r, errLoad := l.run(ctx)
	err = errors.Join(err, errLoad)
	if err != nil {
		return sample{}, err
	}
	after, err := p.cpu()
	if err != nil {
		return sample{}, fmt.Errorf("%w%s", err, p.said())
	}
	n := len(r.latencies)
	if n < l.requests/2 {
		return sample{}, fmt.Errorf("%s answered %d of %d requests as expected; the last error: %w%s",
			p.name, n, l.requests, errors.Join(r.lastError), p.said())
	}
	return sample{
		cpu:        (after - before) / time.Duration(n),
		throughput: float64(n) / r.took.Seconds(),
		p50:        r.quantile(0.50),
		p99:        r.quantile(0.99),
		errors:     r.errors,
	}, nil
}

// figures are the medians of a contender's samples.
type figures struct {
	Name       string  `json:"name"`
	CPU        float64 `json:"cpu_us_per_request"`
	Throughput float64 `json:"requests_per_second"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	Errors     int     `json:"errors"`

	samples []sample
}

func summarize(name string, samples []sample) figures {
	f := figures{Name: name, samples: samples}
	for _, s := range samples {
		f.Errors += s.errors
	}
	f.CPU = median(samples, func(s sample) float64 { return micros(s.cpu) })
	f.Throughput = median(samples, func(s sample) float64 { return s.throughput })
	f.P50 = median(samples, func(s sample) float64 { return micros(s.p50) })
	f.P99 = median(samples, func(s sample) float64 { return micros(s.p99) })
	return f
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func median[T any](all []T, of func(T) float64) float64 {
	x := make([]float64, len(all))
	for i, v := range all {
		x[i] = of(v)
	}
	slices.Sort(x)
	if n := len(x); n%2 == 0 {
		return (x[n/2-1] + x[n/2]) / 2
	}
	return x[len(x)/2]
}
