// Command bench measures what cbproxy costs, side by side with what it could
// be replaced by, in one run on one machine:
//
//   - closed: a bare httputil.ReverseProxy, cbproxy, Caddy, HAProxy and nginx
//     in front of the same upstream; the last two are Debian's, and left out
//     where they are missing;
//   - latency: the same with one connection, and what each adds;
//   - open: cbproxy answering from its fallback, and a net/http handler that
//     answers the same bytes as a constant;
//   - churn: how many connections the upstream had to accept;
//   - stream: how long the events of a stream are on their way;
//   - growth: cbproxy with a thousand services, with thousands of connections,
//     and with as many slow streams.
//
// And what fallbacks cost that do something, where it is asked for:
//
//   - queue: requests for a dead upstream that are accepted, durably, for later;
//   - hit: cbproxy answering from its cache, and from a static fallback;
//   - fill: a healthy upstream, with a cache that learns from it and without.
//
// Every contender is a process of its own, so that its CPU time is exact and
// nobody's garbage is collected at somebody else's cost. Rounds alternate
// between the contenders, because a machine's noise drifts: a slow minute
// then meets all of them. Everything stays on the loopback interface.
//
//	go run ./internal/bench
//	go run ./internal/bench -requests 5000 -rounds 3 -scenarios closed -json
//	go run ./internal/bench -scenarios queue,hit,fill
//
// The profile by which cbproxy is compiled is renewed by
//
//	go run ./internal/bench profile
//
// How a long backlog is worked off takes minutes, and is measured alone:
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

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// usual are the scenarios that are measured where none is asked for, and scenarios all there are.
var (
	usual     = []string{"closed", "latency", "open", "churn", "stream", "growth"}
	scenarios = append(slices.Clone(usual), "queue", "hit", "fill")
)

// options are what the command line chose.
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
	f.IntVar(&o.requests, "requests", 20_000, "requests a contender and round")
	f.IntVar(&o.connections, "connections", 64, "client connections kept alive")
	f.IntVar(&o.rounds, "rounds", 11, "rounds; the medians are reported")
	f.IntVar(&o.body, "body", 0, "bytes of request body; 0 sends GET, more sends POST")
	f.StringVar(&chosen, "scenarios", strings.Join(usual, ","), "scenarios, separated by commas")
	f.StringVar(&o.binary, "cbproxy", "", "cbproxy binary to measure; default builds ./cmd/cbproxy")
	f.DurationVar(&o.timeout, "timeout", 15*time.Minute, "time for the whole run")
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
			return o, fmt.Errorf("-scenarios: no scenario %q; there are %s", s, strings.Join(scenarios, ", "))
		}
	}
	return o, nil
}

// run measures the chosen scenarios and prints the report.
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
		s, err := measures[name](ctx)
		if err != nil {
			return fmt.Errorf("measure %s: %w", name, err)
		}
		r.Scenarios = append(r.Scenarios, s)
	}
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
	return fmt.Sprintf("%s, %d requests a round, %d connections, medians of %d rounds",
		method, o.requests, o.connections, o.rounds)
}
