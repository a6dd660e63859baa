// Command orchestrator is an example of a client of cbproxy. For one event it queries the RAG
// service, sends the result to the rule generation service, and sends both to the notifier. When a
// service is unavailable it continues with cbproxy's fallback response, and the status that it
// prints lists the degraded steps.
//
//	cbproxy demo &
//	go run ./examples/orchestrator -proxy http://127.0.0.1:8080 'Who opened door 7?'
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	proxy := flag.String("proxy", "http://127.0.0.1:8080", "base URL of cbproxy's data plane")
	timeout := flag.Duration("timeout", time.Minute, "timeout for all three steps")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: orchestrator [-proxy URL] [-timeout DURATION] EVENT")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	status, err := orchestrate(ctx, services{base: *proxy}, flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "orchestrator:", err)
		os.Exit(1)
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	if err := e.Encode(status); err != nil {
		fmt.Fprintln(os.Stderr, "orchestrator:", err)
		os.Exit(1)
	}
}
