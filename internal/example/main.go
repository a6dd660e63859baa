// Command example is a small orchestrator behind cbproxy. It asks the knowledge base about an
// event, has rules made of what that knows, and sends the notification. When a service is dead it
// goes on with what cbproxy answers in its place, and its status says which parts were degraded.
//
//	cbproxy demo &
//	go run ./internal/example -proxy http://127.0.0.1:8080 'Who opened door 7?'
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
	proxy := flag.String("proxy", "http://127.0.0.1:8080", "cbproxy's data plane")
	timeout := flag.Duration("timeout", time.Minute, "time for all three steps")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: example [-proxy URL] [-timeout DURATION] EVENT")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	status, err := orchestrate(ctx, services{base: *proxy}, flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	if err := e.Encode(status); err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}
