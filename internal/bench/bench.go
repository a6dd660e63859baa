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

	"cbproxy/internal/bench/loadgen"
	"cbproxy/internal/bench/process"
)

// bench holds the options, binaries and temporary folder that all scenarios use.
type bench struct {
	options
	dir     string // temporary folder with binaries, configurations and logs
	self    string // path of this binary
	cbproxy string
	caddy   string   // "" if it could not be built
	haproxy bool     // whether it is installed
	nginx   bool     // whether it is installed
	notes   []string // contenders that are left out, and why
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

// build builds the contenders and looks for the installed ones.
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
		b.notes = append(b.notes, "Caddy is not measured: "+err.Error())
		caddy = ""
	}
	b.caddy = caddy
	b.haproxy, b.nginx = b.installed("haproxy"), b.installed("nginx")
	return ctx.Err()
}

// installed reports whether a command exists, and adds a note if it does not.
func (b *bench) installed(peer string) bool {
	_, err := exec.LookPath(peer)
	if err != nil {
		b.notes = append(b.notes, peer+" is not measured: "+err.Error())
	}
	return err == nil
}

// close removes the temporary folder.
func (b *bench) close() { _ = os.RemoveAll(b.dir) } // a leftover in the temporary folder is harmless

// path is requested from every contender. Its prefix selects a route in cbproxy; the other proxies forward it unchanged.
const path = "/rag/answers?question=why"

// request returns the bytes of a request as a plain HTTP client sends it: a GET, or a POST with a body of that many
// bytes if body is positive.
func request(path string, body int) []byte {
	method, extra := "GET", ""
	if body > 0 {
		method = "POST"
		extra = fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", body)
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: application/json\r\n%s\r\n%s",
		method, path, extra, strings.Repeat("x", body))
}

// measure sends the load to every contender in each round and returns their medians in order. Each round starts with
// another contender, so that none is favoured by the order.
func (b *bench) measure(ctx context.Context, contenders []*process.Process, l loadgen.Load) ([]figures, error) {
	all := make([][]sample, len(contenders))
	for round := range b.rounds + 1 {
		for i := range contenders {
			i = (i + round) % len(contenders)
			one := l
			one.Address = contenders[i].Address
			if round == 0 {
				one.Requests = max(l.Requests/5, l.Connections) // warms up pools and caches; not counted
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

// summaries returns the medians of each contender.
func summaries(contenders []*process.Process, samples [][]sample) []figures {
	f := make([]figures, len(contenders))
	for i, p := range contenders {
		f[i] = summarize(p.Name, samples[i])
	}
	return f
}

// measureAtOnce is like measure, but all contenders are under load at the same time, each with its share of the
// connections. Disturbances affect all of them equally, so that small differences become visible.
func (b *bench) measureAtOnce(ctx context.Context, contenders []*process.Process, l loadgen.Load) ([]figures, error) {
	if err := process.MoveLoad(ctx, process.OtherCores); err != nil {
		return nil, err
	}
	defer func() { _ = process.MoveLoad(context.WithoutCancel(ctx), process.AllCores) }() // the next scenario reports an error
	l.Connections = max(1, l.Connections/len(contenders))
	all := make([][]sample, len(contenders))
	for round := range b.rounds + 1 {
		samples, errs := make([]sample, len(contenders)), make([]error, len(contenders))
		var running sync.WaitGroup
		for i, p := range contenders {
			running.Go(func() {
				one := l
				one.Address = p.Address
				samples[i], errs[i] = b.sample(ctx, p, one)
			})
		}
		running.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		if round == 0 {
			continue // warms up pools and caches
		}
		for i, s := range samples {
			all[i] = append(all[i], s)
		}
	}
	return summaries(contenders, all), nil
}

// sample holds the measurements of one contender in one round.
type sample struct {
	cpu        time.Duration // per request
	throughput float64       // requests per second
	p50, p99   time.Duration
	errors     int
}

// sample sends the load to p and returns the measurements.
func (b *bench) sample(ctx context.Context, p *process.Process, l loadgen.Load) (sample, error) {
	before, err := p.CPUTime()
	if err != nil {
		return sample{}, err
	}
	l.OnStart = func() { before, err = p.CPUTime() }
	r, errLoad := l.Run(ctx)
	err = errors.Join(err, errLoad)
	if err != nil {
		return sample{}, err
	}
	after, err := p.CPUTime()
	if err != nil {
		return sample{}, fmt.Errorf("%w%s", err, p.Output())
	}
	n := len(r.Latencies)
	if n < l.Requests/2 {
		return sample{}, fmt.Errorf("%s: %d of %d responses were as expected; the last error: %w%s",
			p.Name, n, l.Requests, errors.Join(r.LastError), p.Output())
	}
	return sample{
		cpu:        (after - before) / time.Duration(n),
		throughput: float64(n) / r.Took.Seconds(),
		p50:        r.Quantile(0.50),
		p99:        r.Quantile(0.99),
		errors:     r.Errors,
	}, nil
}

// figures holds the medians of a contender's samples.
type figures struct {
	Name       string  `json:"name"`
	CPU        float64 `json:"cpu_us_per_request"`
	Throughput float64 `json:"requests_per_second"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	Errors     int     `json:"errors"`

	samples []sample
}

// summarize returns the medians of samples.
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

// micros returns d in microseconds.
func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// median returns the median of the values that of returns for all.
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
