// Command caller is a caller of one service on both sides of a migration. By default it has a circuit
// breaker of its own, as clients have that do without cbproxy; without that it leaves the service's
// failures to cbproxy, and counts the answers that were given in the service's place.
//
//	RAG_SERVICE_URL=http://127.0.0.1:8001 go run ./internal/example/caller
//	RAG_SERVICE_URL=http://127.0.0.1:8080/rag go run ./internal/example/caller -breaker=false
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"time"
)

func main() {
	own := flag.Bool("breaker", true, "have a breaker in the caller: 5 failures in a row open it for a minute")
	calls := flag.Int("n", 20, "how many calls, one after the other")
	timeout := flag.Duration("timeout", 3*time.Second, "how long to wait for an answer")
	flag.Parse()
	base := os.Getenv("RAG_SERVICE_URL")
	if base == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: RAG_SERVICE_URL=URL caller [-breaker=false] [-n CALLS] [-timeout DURATION]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := &caller{client: &http.Client{Timeout: *timeout}, url: base + "/query"}
	if *own {
		c.breaker = newBreaker()
	}
	for i := 0; i < *calls && ctx.Err() == nil; i++ {
		c.call(ctx)
	}
	fmt.Println(c.summary())
}
