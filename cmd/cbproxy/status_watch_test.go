package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeProxy is an admin API whose instance name contains the number of events that it has sent.
type fakeProxy struct {
	sent, fetches atomic.Int64
	events        func(w io.Writer)
	failFetch     int64 // number of the health request that fails
}

func (p *fakeProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api/v1/circuit-breakers/health":
		if p.fetches.Add(1) == p.failFetch {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintf(w, `{"status":"healthy","instance":"event-%d","services":{}}`, p.sent.Load())
	case "/api/v1/queue":
		_, _ = io.WriteString(w, `{"queues":{},"requests":[]}`)
	case "/api/v1/events":
		p.events(w)
		<-r.Context().Done()
	}
}

// send counts and sends an event.
func (p *fakeProxy) send(w io.Writer) {
	p.sent.Add(1)
	_, _ = io.WriteString(w, "event: queue\ndata: {}\n\n")
	w.(http.Flusher).Flush()
}

// syncBuffer is a buffer that is safe for concurrent use.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *syncBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *syncBuffer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// startWatch starts a watch and returns a function that ends it and returns its error.
func startWatch(t *testing.T, p *fakeProxy, out io.Writer) (end func() error) {
	t.Helper()
	server := httptest.NewServer(p)
	flags := adminFlags{admin: server.URL, output: "table", timeout: 20 * time.Second}
	c, err := flags.client()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.watch(ctx, out, "") }()
	return func() error {
		cancel()
		server.CloseClientConnections()
		server.Close()
		return <-ended
	}
}

// awaitText waits until out contains text.
func awaitText(t *testing.T, out *syncBuffer, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %q in\n%s", text, out)
		}
	}
}

// TestWatchLimitsRedraws checks that the number of redraws is limited however fast events arrive, and that the last one
// shows the final status.
func TestWatchLimitsRedraws(t *testing.T) {
	t.Parallel()
	const burst = 500
	p := new(fakeProxy)
	p.events = func(w io.Writer) {
		for range burst {
			p.send(w)
			time.Sleep(time.Millisecond) // so that the burst outlasts the first fetch
		}
	}
	out, start := new(syncBuffer), time.Now()
	end := startWatch(t, p, out)
	awaitText(t, out, fmt.Sprintf("instance event-%d ", burst))
	took := time.Since(start)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	// The first fetch is the initial one, and one fetch each may precede and follow all pauses.
	if limit := int64(took/watchPause) + 3; p.fetches.Load() > limit || p.fetches.Load() < 3 {
		t.Errorf("%d fetches for %d events in %v, want 3 to %d", p.fetches.Load(), burst, took, limit)
	}
}

// TestWatchDropsErrorAfterReconnect checks that a lost connection is not reported if it is restored before the status is
// redrawn.
func TestWatchDropsErrorAfterReconnect(t *testing.T) {
	t.Parallel()
	p := new(fakeProxy)
	var connections atomic.Int64
	p.events = func(w io.Writer) {
		p.send(w)
		if connections.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
	}
	// The second redraw waits until the second connection has sent an event.
	out := &slowWriter{until: func() bool { return p.sent.Load() > 1 }}
	end := startWatch(t, p, out)
	awaitText(t, &out.syncBuffer, "instance event-2 ")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if before, _, _ := strings.Cut(out.String(), "healthy · instance event-2 "); !strings.HasSuffix(before, "\n\n") { // the end of the previous status
		t.Errorf("the last status is reported as stale:\n%s", out)
	}
}

// TestWatchRetriesFailedFetch checks that a failed fetch is retried, even if no event follows.
func TestWatchRetriesFailedFetch(t *testing.T) {
	t.Parallel()
	p := &fakeProxy{failFetch: 2}
	p.events = func(w io.Writer) { p.send(w) }
	out := new(syncBuffer)
	end := startWatch(t, p, out)
	awaitText(t, out, "CONNECTION LOST")
	awaitText(t, out, "instance event-1 ")
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

// slowWriter blocks its second write until the function until returns true.
type slowWriter struct {
	syncBuffer
	until  func() bool
	writes int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.writes++; w.writes == 2 {
		for deadline := time.Now().Add(20 * time.Second); !w.until() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond) // gives the watch time to read the event, which the test cannot observe
	}
	return w.syncBuffer.Write(p)
}

func TestWatchInterruptedAtFirstFetchPrintsNothing(t *testing.T) {
	t.Parallel()
	requested := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		requested <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	flags := adminFlags{admin: server.URL, output: "table", timeout: 20 * time.Second}
	c, err := flags.client()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-requested; cancel() }()
	var out strings.Builder
	if err := c.watch(ctx, &out, ""); err != nil || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}
