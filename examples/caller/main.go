// Command caller is an example of a client before and after its migration to cbproxy. By default it
// has its own circuit breaker, as clients without cbproxy do. With -breaker=false it relies on
// cbproxy's breaker and counts the fallback responses.
//
//	RAG_SERVICE_URL=http://127.0.0.1:8001 go run ./examples/caller
//	RAG_SERVICE_URL=http://127.0.0.1:8080/rag go run ./examples/caller -breaker=false
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
	own := flag.Bool("breaker", true, "use a breaker in the client that opens for a minute after 5 consecutive failures")
	calls := flag.Int("n", 20, "number of sequential calls")
	timeout := flag.Duration("timeout", 3*time.Second, "timeout of each call")
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
