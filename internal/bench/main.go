// Command bench measures the cost of cbproxy and compares it with other proxies, in one run on one machine:
//
//   - closed: a bare httputil.ReverseProxy, cbproxy, Caddy, HAProxy and nginx in front of the same upstream. HAProxy
//     and nginx are Debian's, and are left out if they are not installed.
//   - latency: the same with one connection, and the latency that each proxy adds.
//   - open: the fallback of an open breaker, and a net/http handler that returns the same bytes as a constant.
//   - churn: the number of connections that the upstream accepts.
//   - stream: the latency of a stream's events.
//   - growth: cbproxy with a thousand services, with thousands of connections, and with as many slow streams.
//
// Fallback scenarios, which run only if they are selected:
//
//   - queue: requests for a dead upstream that are queued on disk.
//   - hit: responses from the cache, compared with a static fallback.
//   - fill: a healthy upstream, with and without a cache that stores its responses.
//
// Every contender is a separate process, so that its CPU time can be measured exactly and includes only its own
// garbage collection. Rounds alternate between the contenders, so that changes of the machine's load affect all of them.
// All traffic stays on the loopback interface.
//
//	go run ./internal/bench
//	go run ./internal/bench -requests 5000 -rounds 3 -scenarios closed -json
//	go run ./internal/bench -scenarios queue,hit,fill
//
// This renews the profile with which cbproxy is compiled:
//
//	go run ./internal/bench profile
//
// This measures the delivery of a long backlog, which takes minutes:
//
//	go run ./internal/bench backlog -messages 1000000
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			exit(role(ctx, os.Args[2:]))
		}
	}
	o, err := parseOptions(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	exit(run(ctx, o))
}

// exit ends the process, with status 1 if err is not nil.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// defaultScenarios are the scenarios that run by default, scenarios all of them.
var (
	defaultScenarios = []string{"closed", "latency", "open", "churn", "stream", "growth"}
	scenarios        = append(slices.Clone(defaultScenarios), "queue", "hit", "fill")
)

// options are the command line options.
type options struct {
	requests    int
	connections int
	rounds      int
	body        int
	scenarios   []string
	binary      string
	timeout     time.Duration
	json        bool
}

func parseOptions(args []string) (options, error) {
	var o options
	var chosen string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.requests, "requests", 20_000, "requests per contender and round")
	f.IntVar(&o.connections, "connections", 64, "client connections kept alive")
	f.IntVar(&o.rounds, "rounds", 11, "rounds; the medians are reported")
	f.IntVar(&o.body, "body", 0, "bytes of request body; 0 sends GET, more sends POST")
	f.StringVar(&chosen, "scenarios", strings.Join(defaultScenarios, ","), "scenarios, separated by commas")
	f.StringVar(&o.binary, "cbproxy", "", "cbproxy binary to measure; default builds ./cmd/cbproxy")
	f.DurationVar(&o.timeout, "timeout", time.Hour, "time for the whole run")
	f.BoolVar(&o.json, "json", false, "print the report as JSON")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; see -help", f.Arg(0))
	}
	for name, n := range map[string]int{"requests": o.requests, "connections": o.connections, "rounds": o.rounds} {
		if n < 1 {
			return o, fmt.Errorf("-%s must be at least 1, got %d", name, n)
		}
	}
	if o.body < 0 {
		return o, fmt.Errorf("-body must not be negative, got %d", o.body)
	}
	o.scenarios = strings.Split(chosen, ",")
	for _, s := range o.scenarios {
		if !slices.Contains(scenarios, s) {
			return o, fmt.Errorf("-scenarios: unknown scenario %q; known are %s", s, strings.Join(scenarios, ", "))
		}
	}
	return o, nil
}

// run runs the selected scenarios and prints the report.
func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()

	r := report{Machine: describeMachine(), Options: o.describe(), Notes: b.notes}
	measures := map[string]func(context.Context) (scenario, error){
		"closed": b.closed, "latency": b.latency, "open": b.open, "growth": b.growth, "churn": b.churn, "stream": b.stream,
		"queue": b.queue, "hit": b.hit, "fill": b.fill,
	}
	for _, name := range o.scenarios {
		start := time.Now()
		s, err := measures[name](ctx)
		if err != nil {
			return errors.Join(fmt.Errorf("measure %s: %w", name, err), o.printReport(&r)) // the others took minutes
		}
		fmt.Fprintf(os.Stderr, "bench: measured %s in %v\n", name, time.Since(start).Round(time.Second))
		r.Scenarios = append(r.Scenarios, s)
	}
	return o.printReport(&r)
}

func (o options) printReport(r *report) error {
	if o.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.print(os.Stdout)
}

func (o options) describe() string {
	method := "GET"
	if o.body > 0 {
		method = fmt.Sprintf("POST of %d bytes", o.body)
	}
	return fmt.Sprintf("%s, %d requests per round, %d connections, medians of %d rounds",
		method, o.requests, o.connections, o.rounds)
}
