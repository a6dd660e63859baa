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

// busyProxy is an admin plane whose health says how many events it has sent.
type busyProxy struct {
	sent, looks atomic.Int64
	events      func(w io.Writer)
	refused     int64 // the look that is
}

func (p *busyProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api/v1/circuit-breakers/health":
		if p.looks.Add(1) == p.refused {
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

// send sends an event.
func (p *busyProxy) send(w io.Writer) {
	p.sent.Add(1)
	_, _ = io.WriteString(w, "event: queue\ndata: {}\n\n")
	w.(http.Flusher).Flush()
}

// watched is what a watch has written.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// watching starts a watch, and returns what ends it and how it ended.
func watching(t *testing.T, p *busyProxy, out io.Writer) (end func() error) {
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

func awaitText(t *testing.T, out *watched, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %q in\n%s", text, out)
		}
	}
}

// However fast events come, few pictures are drawn, and the last has all of it.
func TestBurstOfEventsIsDrawnAsFewPictures(t *testing.T) {
	t.Parallel()
	const burst = 500
	p := new(busyProxy)
	p.events = func(w io.Writer) {
		for range burst {
			p.send(w)
			time.Sleep(time.Millisecond) // so that it is not over before it is looked at
		}
	}
	out, start := new(watched), time.Now()
	end := watching(t, p, out)
	awaitText(t, out, fmt.Sprintf("instance event-%d ", burst))
	took := time.Since(start)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	// One is the first, and one each may come before and after all pauses.
	if most := int64(took/watchPause) + 3; p.looks.Load() > most || p.looks.Load() < 3 {
		t.Errorf("%d looks for %d events in %v, at most %d are due", p.looks.Load(), burst, took, most)
	}
}

// What is wrong is forgotten when it is right again, even if nobody has looked meanwhile.
func TestWatchThatConnectsAgainIsNotTakenForLost(t *testing.T) {
	t.Parallel()
	p := new(busyProxy)
	var connections atomic.Int64
	p.events = func(w io.Writer) {
		p.send(w)
		if connections.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
	}
	// The picture is not taken before the second connection has told something.
	out := &slowWriter{until: func() bool { return p.sent.Load() > 1 }}
	end := watching(t, p, out)
	awaitText(t, &out.watched, "instance event-2 ")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if before, _, _ := strings.Cut(out.String(), "healthy · instance event-2 "); !strings.HasSuffix(before, "\n\n") { // the end of the picture before it
		t.Errorf("the last picture is called old:\n%s", out)
	}
}

// A look that fails is repeated, even if nothing happens any more.
func TestWatchLooksAgain(t *testing.T) {
	t.Parallel()
	p := &busyProxy{refused: 2}
	p.events = func(w io.Writer) { p.send(w) }
	out := new(watched)
	end := watching(t, p, out)
	awaitText(t, out, "CONNECTION LOST")
	awaitText(t, out, "instance event-1 ")
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

// slowWriter keeps its second picture waiting.
type slowWriter struct {
	watched
	until  func() bool
	writes int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.writes++; w.writes == 2 {
		for deadline := time.Now().Add(20 * time.Second); !w.until() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond) // until it is read, which nobody can see
	}
	return w.watched.Write(p)
}

func TestWatchThatIsInterruptedAtItsFirstLookSaysNothing(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	flags := adminFlags{admin: server.URL, output: "table", timeout: 20 * time.Second}
	c, err := flags.client()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	var out strings.Builder
	if err := c.watch(ctx, &out, ""); err != nil || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}
