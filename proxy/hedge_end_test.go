package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// Hedges work with every protocol of an upstream.
func TestHedgesOverEachProtocol(t *testing.T) {
	handle := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("X-Attempt") == "1" {
			select {
			case <-r.Context().Done(): // the end of the stream or of the connection
			case <-time.After(10 * time.Second): // there is no hedge
			}
		}
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = io.WriteString(w, "\x00\x00\x00\x00\x00")
		_ = http.NewResponseController(w).Flush() // over HTTP/1.1, trailers need a chunked body
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}
	secured := func(http2 bool) func(t *testing.T) string {
		return func(t *testing.T) string {
			s := httptest.NewUnstartedServer(http.HandlerFunc(handle))
			s.EnableHTTP2 = http2
			s.StartTLS()
			t.Cleanup(s.Close)
			return s.URL
		}
	}
	for name, upstream := range map[string]func(t *testing.T) string{
		"h2c":             func(t *testing.T) string { return h2cUpstream(t, handle) },
		"https, HTTP/1.1": secured(false),
		"https, HTTP/2":   secured(true),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, address, recorded, _ := startTraced(t, routeConfig("["+upstream(t)+", "+upstream(t)+"]", "tls: {insecure_skip_verify: true}",
				"hedge: {after: 200ms, max_ratio: 1}", "retry: {attempts: 0, budget: 1, methods: [POST]}", "breaker: {fail_max: 1}"))
			res := callGRPC(t, address)
			o := recorded.next(t)
			if !o.Hedged {
				t.Skip("the upload took longer than hedge.after")
			}
			if res.StatusCode != 200 || res.Trailer.Get("Grpc-Status") != "0" || o.Result != events.ResultSuccess || o.GRPCStatus != "OK" {
				t.Errorf("status %d, %v, %+v", res.StatusCode, res.Trailer, o)
			}
			wantQuiet(t, server, 0)
		})
	}
}

// A gRPC call that fails without messages is answered by its hedge.
func TestAFailedGRPCCallIsHiddenByItsHedge(t *testing.T) {
	hedged := make(chan struct{})
	handle := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		if r.Header.Get("X-Attempt") == "1" {
			select {
			case <-hedged:
			case <-time.After(10 * time.Second): // there is no hedge
			}
			w.Header().Set("Grpc-Status", "14")
			return
		}
		close(hedged)
		time.Sleep(100 * time.Millisecond) // the first attempt fails
		_, _ = io.WriteString(w, "\x00\x00\x00\x00\x00")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}
	server, address, recorded, _ := startTraced(t, routeConfig("["+h2cUpstream(t, handle)+", "+h2cUpstream(t, handle)+"]",
		"hedge: {after: 200ms, max_ratio: 1}", "retry: {attempts: 0, budget: 1, methods: [POST]}", "breaker: {fail_max: 1}"))
	res := callGRPC(t, address)
	o := recorded.next(t)
	if !o.Hedged {
		t.Skip("the upload took longer than hedge.after")
	}
	if res.Trailer.Get("Grpc-Status") != "0" || o.Result != events.ResultSuccess || o.GRPCStatus != "OK" || o.Attempts != 2 {
		t.Errorf("%v, %v, %+v", res.Header, res.Trailer, o)
	}
	_ = wantNoneInFlight(t, server)
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("breaker %v", state)
	}
}

// If the client leaves while two attempts are in flight, both end and count for nothing.
func TestBothAttemptsEndWithTheClient(t *testing.T) {
	arrived, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	upstreams := numberedUpstreams(t, 2, func(_ int, _ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	server, address, recorded, tracer := startTraced(t, hedgedConfig(upstreams, "breaker: {fail_max: 1}"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; <-arrived; cancel() }()
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+address+"/svc", nil)
	if res, err := http.DefaultClient.Do(r); err == nil {
		_ = res.Body.Close()
		t.Errorf("status %d", res.StatusCode)
	}
	<-ended
	<-ended
	if o := recorded.next(t); o.Result != events.ResultCancelled || o.Attempts != 2 || o.Failure != nil {
		t.Errorf("%+v", o)
	}
	if failures, hedges := recorded.seen(); len(failures) > 0 || !slices.Equal(hedges, []bool{false}) {
		t.Errorf("failures %v, hedges %v", failures, hedges)
	}
	for _, span := range tracer.ended(t, 2) {
		if span.end.Result != events.ResultCancelled || span.end.HedgeWon {
			t.Errorf("%+v", span)
		}
	}
	wantQuiet(t, server, 0)
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("breaker %v", state)
	}
}

// The attempt that was slower than a stream does not stay in flight for as long as the stream.
func TestTheSlowerAttemptEndsBeforeTheStream(t *testing.T) {
	release := make(chan struct{})
	upstreams := numberedUpstreams(t, 2, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: x\n\n")
		_ = http.NewResponseController(w).Flush()
		until(r, release)
	})
	server, address, recorded, tracer := startTraced(t, hedgedConfig(upstreams))
	res, err := http.Get("http://" + address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); line != "data: x\n" {
		t.Fatalf("%q, %v", line, err)
	}
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		inFlight := int64(0)
		for _, e := range server.Endpoints("svc") {
			inFlight += e.InFlight
		}
		if inFlight == 1 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d attempts are in flight during the stream, want 1", inFlight)
		}
	}
	received := time.Now()
	close(release)
	_, _ = io.Copy(io.Discard, res.Body)
	recorded.next(t)
	wantQuiet(t, server, 0)
	for _, span := range tracer.ended(t, 2) {
		if !span.Hedge && span.end.Time.After(received) {
			t.Errorf("the span of the slower attempt has ended with the stream")
		}
	}
}

// Interim responses of attempts at the same time are not sent: the client could not tell which final response they belong to.
func TestHedgedAttemptsSendNoInterimResponses(t *testing.T) {
	upstreams := numberedUpstreams(t, 2, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Link", "</hedge.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "ok")
	})
	_, address, recorded, _ := startTraced(t, hedgedConfig(upstreams))
	got := rawResponse(t, address, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "")
	if recorded.next(t); !strings.HasPrefix(got, "HTTP/1.1 200 ") || strings.Contains(got, " 103 ") {
		t.Errorf("%q", got)
	}
}

// interimPanicker is a ResponseWriter that panics when an interim response is written.
type interimPanicker struct{ *httptest.ResponseRecorder }

func (w interimPanicker) WriteHeader(status int) {
	if status < 200 {
		panic("test")
	}
	w.ResponseRecorder.WriteHeader(status)
}

// A panic on the goroutine of an attempt that may get a hedge is no failure of the upstream.
func TestPanicWhileSendingAnAttempt(t *testing.T) {
	if httpMode != "auto" {
		t.Skip("http.Transport calls the hooks on goroutines of its own")
	}
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"+okResponse)
			_, _ = io.Copy(io.Discard, r)
		}
	})
	server, _, recorded := start(t, routeConfig(url, "hedge: {after: 20s, max_ratio: 1}", "timeout: 60s", "breaker: {fail_max: 1}"))
	w := httptest.NewRecorder()
	server.ServeHTTP(interimPanicker{w}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/svc", nil))
	if o := recorded.next(t); w.Code != 502 || o.Failure != nil {
		t.Errorf("status %d, %+v", w.Code, o)
	}
	if failures, _ := recorded.seen(); len(failures) > 0 || server.Breaker("svc").State() != events.Closed {
		t.Errorf("failures %v, breaker %v", failures, server.Breaker("svc").State())
	}
	wantQuiet(t, server, 0)
}
