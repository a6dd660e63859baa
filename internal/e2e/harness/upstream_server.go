package harness

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// serveUpstream runs an upstream that listens at address. The request path selects its behaviour; by default the response
// has the request's target and header fields. It returns only on an error.
func serveUpstream(address string) error {
	var requests atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Fallback", "spoofed")
		w.Header().Set("X-Circuit-Breaker-State", "spoofed")
		fmt.Fprintf(w, `{"target":%q,"header":%q}`, r.RequestURI, fmt.Sprint(r.Header))
	})
	mux.HandleFunc("/requests", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, requests.Load()) })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.URL.Query().Get("for"))
		time.Sleep(d)
		fmt.Fprint(w, "done")
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, "after hints")
	})
	mux.HandleFunc("/events", streamEvents)
	mux.HandleFunc("/socket", EchoUpgradedConnection)
	return http.ListenAndServe(address, mux)
}

// streamEvents sends a server-sent event for each byte of the request body when it arrives.
func streamEvents(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex()
	w.Header().Set("Content-Type", "text/event-stream")
	_ = control.Flush()
	b := make([]byte, 1)
	for {
		if _, err := r.Body.Read(b); err != nil {
			return
		}
		fmt.Fprintf(w, "data: %s\n\n", b)
		_ = control.Flush()
	}
}

// EchoUpgradedConnection is a handler that accepts an upgrade to any protocol and echoes all data.
func EchoUpgradedConnection(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	_ = rw.Flush()
	_, _ = io.Copy(c, rw.Reader)
}
