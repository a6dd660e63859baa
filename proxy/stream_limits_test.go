package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

const (
	ndjsonHead  = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
	gzippedHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"
)

// handlerUpstream starts an upstream that speaks HTTP/1.1.
func handlerUpstream(t testing.TB, handler http.HandlerFunc) (url string) {
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// crawlingUpstream writes start, and then repeats text until the connection ends. "" is written once only.
func crawlingUpstream(t testing.TB, start, text string) (url string) {
	return rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, q.Body)
		_, _ = io.WriteString(c, start)
		for text != "" {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		_, _ = r.ReadByte() // until the proxy closes the connection
	})
}

// crawlingHTTP2Upstream is crawlingUpstream for HTTP/2, with a Content-Type.
func crawlingHTTP2Upstream(t testing.TB, contentType, start, text string) (url string) {
	return h2cUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, start)
		_ = http.NewResponseController(w).Flush()
		for text != "" && r.Context().Err() == nil {
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
		<-r.Context().Done()
	})
}

// A stream that has no first event in time, or none that counts, is a failure and is cut, although it is never silent for
// idle_timeout.
func TestStreamWithoutAFirstEventIsAFailure(t *testing.T) {
	for name, url := range map[string]string{
		"nothing":           crawlingUpstream(t, eventStreamHead, ""),
		"comments":          crawlingUpstream(t, eventStreamHead, ": keep-alive\n\n"),
		"pings":             crawlingUpstream(t, eventStreamHead, "event: ping\r\ndata: {}\r\n\r\n"),
		"an event's start":  crawlingUpstream(t, eventStreamHead+"data: x\n", ": comment\n"),
		"NDJSON":            crawlingUpstream(t, ndjsonHead, ""),
		"encoded":           crawlingUpstream(t, gzippedHead, ""),
		"HTTP/2, comments":  crawlingHTTP2Upstream(t, "text/event-stream", "", ": keep-alive\n\n"),
		"gRPC":              crawlingHTTP2Upstream(t, "application/grpc", "", ""),
		"HTTP/2, no length": crawlingHTTP2Upstream(t, "application/json", "", ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, address, recorded := start(t, routeConfig(url, "stream: {first_event_timeout: 0.3s}", "breaker: {fail_max: 1}"))
			r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", strings.NewReader("{}"))
			if name == "gRPC" {
				r.Header.Set("Content-Type", "application/grpc")
			}
			res, err := h2cClient(t).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Error("the stream ended without an error")
			}
			o := recorded.next(t)
			if o.Failure == nil || o.Failure.Type != events.ErrorIdle || !strings.HasSuffix(o.Failure.Detail, "first_event_timeout is 300ms") {
				t.Errorf("%+v %+v", o, o.Failure)
			}
			if state := server.Breaker("svc").State(); state != events.Open {
				t.Errorf("breaker %v", state)
			}
		})
	}
}

// A stream with too little content within a window is a failure of a type of its own, and is cut. What only keeps the connection in
// use is no content.
func TestSlowStreamIsAFailure(t *testing.T) {
	for name, url := range map[string]string{
		"trickle":                 crawlingUpstream(t, "HTTP/1.1 200 OK\r\n\r\n", "x"),
		"burst, then nothing":     crawlingUpstream(t, "HTTP/1.1 200 OK\r\n\r\n"+strings.Repeat("x", 100_000), ""),
		"an event, then comments": crawlingUpstream(t, eventStreamHead+"data: x\n\n", ":"+strings.Repeat("x", 1000)+"\n\n"),
		"an event, then pings":    crawlingUpstream(t, eventStreamHead+"data: x\n\n", "event: ping\ndata: "+strings.Repeat("x", 1000)+"\n\n"),
		"NDJSON, blank lines":     crawlingUpstream(t, ndjsonHead+"{}\n", strings.Repeat("\n", 1000)),
		"encoded":                 crawlingUpstream(t, gzippedHead, "x"),
		"HTTP/2":                  crawlingHTTP2Upstream(t, "text/event-stream", "data: x\n\n", "data: x\n\n"),
		"gRPC":                    crawlingHTTP2Upstream(t, "application/grpc", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, address, recorded := start(t, routeConfig(url, "stream: {min_bytes_per_second: 5000, window: 0.5s}", "breaker: {fail_max: 1}"))
			r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", strings.NewReader("{}"))
			if name == "gRPC" {
				r.Header.Set("Content-Type", "application/grpc")
			}
			res, err := h2cClient(t).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Error("the stream ended without an error")
			}
			o := recorded.next(t)
			if o.Failure == nil || o.Failure.Type != events.ErrorSlowStream || !strings.HasSuffix(o.Failure.Detail, "min_bytes_per_second is 5000") {
				t.Errorf("%+v %+v", o, o.Failure)
			}
			if state := server.Breaker("svc").State(); state != events.Open {
				t.Errorf("breaker %v", state)
			}
		})
	}
}

// With stream_commit: first_byte, nothing is sent before the first event, so that the fallback replaces a stream without one.
func TestFallbackReplacesStreamWithoutAFirstEvent(t *testing.T) {
	for name, url := range map[string]string{
		"nothing":  crawlingUpstream(t, eventStreamHead, ""),
		"comments": crawlingUpstream(t, eventStreamHead, ": keep-alive\n\n"),
		"pings":    crawlingHTTP2Upstream(t, "text/event-stream", "", "event: ping\ndata: {}\n\n"),
	} {
		for _, keys := range []string{"", "retry: {attempts: 1, methods: [POST]}", "retry: {attempts: 1, methods: [POST], budget: 1, backoff: 1h, max_backoff: 1h}"} {
			t.Run(name+" "+keys, func(t *testing.T) {
				t.Parallel()
				_, address, recorded := start(t, "fallbacks: {svc: {try: [static], static: {body: {a: 1}}}}\n"+
					routeConfig(url, "stream_commit: first_byte", "stream: {first_event_timeout: 0.2s}", keys))
				res, err := http.Post("http://"+address+"/svc", "text/plain", strings.NewReader("hello"))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil || string(body) != `{"a":1}` || res.Header.Get("X-Fallback-Reason") != "timeout" {
					t.Errorf("%q, %v, %v", body, err, res.Header)
				}
				if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorIdle || o.Reason != events.ReasonTimeout {
					t.Errorf("%+v %+v", o, o.Failure)
				}
			})
		}
	}
}

// With stream_commit: first_byte, a stream without a first event is requested again.
func TestStreamWithoutAFirstEventIsRetried(t *testing.T) {
	for _, scheme := range []string{"http", "h2c"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(scheme+" "+method, func(t *testing.T) {
				t.Parallel()
				second := make(chan bool, 2)
				second <- false
				second <- true
				handler := func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					w.Header().Set("Content-Type", "text/event-stream")
					_ = http.NewResponseController(w).Flush() // no Content-Length: the client gets the end after the proxy
					if <-second {
						_, _ = fmt.Fprintf(w, ": second\n\ndata: %s %s\n\n", r.Method, body)
						return
					}
					for r.Context().Err() == nil {
						_, _ = io.WriteString(w, ": first\n\n")
						_ = http.NewResponseController(w).Flush()
						time.Sleep(10 * time.Millisecond)
					}
				}
				url := h2cUpstream(t, handler)
				if scheme == "http" {
					url = handlerUpstream(t, handler)
				}
				_, address, recorded := start(t, routeConfig(url, "stream_commit: first_byte", "stream: {first_event_timeout: 1s}",
					"retry: {attempts: 1, budget: 1, backoff: 1ms, methods: [GET, POST]}", "breaker: {fail_max: 2}"))
				r, _ := http.NewRequest(method, "http://"+address+"/svc", strings.NewReader("hello"))
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if body, err := io.ReadAll(res.Body); err != nil || string(body) != ": second\n\ndata: "+method+" hello\n\n" {
					t.Errorf("%d, %q, %v", res.StatusCode, body, err)
				}
				o := recorded.next(t)
				if o.Result != events.ResultSuccess || o.Attempts != 2 || fmt.Sprint(recorded.failures) != "[idle]" {
					t.Errorf("%+v, failures %v", o, recorded.failures)
				}
			})
		}
	}
}

// What comes before the first event is held back with stream_commit: first_byte, and sent unchanged.
func TestHeldCommentsAreSentUnchanged(t *testing.T) {
	comments := strings.Repeat(": keep-alive\r\n\r\n", 1000) // more than fits into the first buffer
	url, next := steppedUpstream(t, eventStreamHead, comments, "event: ping\ndata: {}\n\n", "data: 1\n\n", ": more\n\n")
	_, address, recorded := start(t, routeConfig(url, "stream_commit: first_byte", "stream: {first_event_timeout: 1h}"))
	responses := make(chan *http.Response, 1)
	go func() {
		res, err := http.Get("http://" + address + "/svc")
		if err != nil {
			t.Error(err)
		}
		responses <- res
	}()
	for range 3 {
		next <- struct{}{}
	}
	select {
	case <-responses:
		t.Error("the header section was sent before the first event")
	case <-time.After(50 * time.Millisecond):
	}
	next <- struct{}{}
	res := <-responses
	defer res.Body.Close()
	want := comments + "event: ping\ndata: {}\n\ndata: 1\n\n"
	first := make([]byte, len(want))
	if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != want {
		t.Fatalf("%.100q…, %v", first, err)
	}
	next <- struct{}{}
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != ": more\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
	if o := recorded.next(t); o.Result != events.ResultSuccess {
		t.Errorf("%+v", o)
	}
}

// A stream is held back no longer when it ends without a first event, or when too much would have to be held.
func TestStreamWithoutAFirstEventIsCommitted(t *testing.T) {
	comments := strings.Repeat(": "+strings.Repeat("x", 97)+"\n", 1000)
	for name, texts := range map[string][]string{
		"ends":               {eventStreamHead, ": comment\n\n"},
		"more than is held":  {eventStreamHead + comments, "data: 1\n\n"},
		"a line without end": {eventStreamHead + ": " + strings.Repeat("x", 1<<20), "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, next := steppedUpstream(t, texts...)
			_, address, recorded := start(t, routeConfig(url, "stream_commit: first_byte", "stream: {first_event_timeout: 1h}"))
			go func() {
				next <- struct{}{}
				if name == "ends" {
					next <- struct{}{}
				}
			}()
			res, err := http.Get("http://" + address + "/svc")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if name != "ends" {
				next <- struct{}{} // after the header section
			}
			want := strings.TrimPrefix(strings.Join(texts, ""), eventStreamHead)
			if body, err := io.ReadAll(res.Body); err != nil || string(body) != want {
				t.Errorf("%.100q, %v", body, err)
			}
			if o := recorded.next(t); o.Result != events.ResultSuccess {
				t.Errorf("%+v", o)
			}
		})
	}
}

// A stream that breaks off after comments only can be replaced: nothing of it has been sent.
func TestFallbackReplacesStreamThatBreaksOffBeforeTheFirstEvent(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n: hi\n\n\r\n")
		}
	})
	_, address, recorded := start(t, "fallbacks: {svc: {try: [static], static: {body: {a: 1}}}}\n"+
		routeConfig(url, "stream_commit: first_byte", "stream: {first_event_timeout: 1h}"))
	res, body := get(t, "http://"+address+"/svc")
	if body != `{"a":1}` || res.Header.Get("X-Fallback-Reason") != "reset" {
		t.Errorf("%q, %v", body, res.Header)
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorTruncated {
		t.Errorf("%+v %+v", o, o.Failure)
	}
}

// The time in which the client takes nothing is not counted.
func TestStreamToASlowClientIsNotSlow(t *testing.T) {
	const size = 32 << 20 // more than fits into the buffers on the way
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			url := handlerUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.CopyN(w, endless("x"), size)
			})
			_, address, recorded := start(t, routeConfig(url, "stream: {first_event_timeout: 1s, min_bytes_per_second: 1, window: 1s}"))
			client := http.DefaultClient
			if version == "HTTP/2" {
				client = h2cClient(t)
			}
			res, err := client.Get("http://" + address + "/svc")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			time.Sleep(3 * time.Second) // more than two windows
			if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			if o := recorded.next(t); o.Result != events.ResultSuccess {
				t.Errorf("%+v %+v", o, o.Failure)
			}
		})
	}
}

// endless is a reader of one text, repeated.
type endless string

func (e endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

// The time in which the upstream may be waiting for the client's messages is not counted, before the first one and later.
func TestStreamThatWaitsForItsClientIsNotSlow(t *testing.T) {
	url := h2cUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		control := http.NewResponseController(w)
		_ = control.Flush()
		for one := make([]byte, 1); ; {
			if _, err := r.Body.Read(one); err != nil {
				break
			}
			_, _ = w.Write(one)
			_ = control.Flush()
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	_, address, recorded := start(t, routeConfig(url, "stream: {first_event_timeout: 0.5s, min_bytes_per_second: 1000, window: 0.5s}"))
	body, send := io.Pipe()
	r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", body)
	r.Header.Set("Content-Type", "application/grpc")
	res, err := h2cClient(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for _, message := range []byte("ab") {
		time.Sleep(1500 * time.Millisecond) // more than two windows
		_, _ = send.Write([]byte{message})
		got := make([]byte, 1)
		if _, err := io.ReadFull(res.Body, got); err != nil || got[0] != message {
			t.Fatalf("%q, %v", got, err)
		}
	}
	_ = send.Close()
	if _, err := io.ReadAll(res.Body); err != nil || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%v, trailers %v", err, res.Trailer)
	}
	if o := recorded.next(t); o.Result != events.ResultSuccess {
		t.Errorf("%+v %+v", o, o.Failure)
	}
}

// With first_event_timeout, a stream proves with its first event that the upstream has recovered, and not with its header section. A
// probe whose client leaves before that returns its permit.
func TestFirstEventClosesAHalfOpenBreaker(t *testing.T) {
	for name, after := range map[string]events.State{"event": events.Closed, "pings": events.Open, "client leaves": events.HalfOpen, "ends": events.Closed, "error event": events.Open} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := "data: 1\n\n"
			if name == "error event" {
				first = "event: error\n" + first
			}
			url, next := steppedUpstream(t, eventStreamHead, ": comment\n\n", "event: ping\ndata: {}\n\n", first, "data: 2\n\n")
			limit := "1h"
			if name == "pings" {
				limit = "0.5s"
			}
			server, address, recorded := start(t, routeConfig(url, "stream: {first_event_timeout: "+limit+"}", "breaker: {half_open_requests: 1, sse_error_events: [error]}"))
			b := server.Breaker("svc")
			b.Force(events.HalfOpen, 0, "test")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for range 3 {
					next <- struct{}{}
				}
			}()
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/svc", nil)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if _, err := io.ReadFull(res.Body, make([]byte, len(": comment\n\nevent: ping\ndata: {}\n\n"))); err != nil {
				t.Fatal(err)
			}
			if s := b.Status(); name != "pings" && (s.State != events.HalfOpen || s.ProbesInFlight != 1) {
				t.Errorf("before the first event: %+v", s)
			}
			switch name {
			case "event", "error event":
				next <- struct{}{}
				if _, err := io.ReadFull(res.Body, make([]byte, len(first))); err != nil {
					t.Fatal(err)
				}
			case "client leaves":
				cancel()
				recorded.next(t)
			case "ends":
				close(next)
				recorded.next(t)
			default:
				recorded.next(t)
			}
			if s := b.Status(); s.State != after || s.ProbesInFlight != 0 {
				t.Errorf("after that: %+v", s)
			}
		})
	}
}

// A stream keeps the limits that it began with when the configuration changes.
func TestStreamKeepsItsLimitsAcrossReloads(t *testing.T) {
	const limited, unlimited = "stream: {first_event_timeout: 1s}", "stream: {first_event_timeout: 0s}"
	for _, c := range []struct{ before, after string }{{limited, unlimited}, {unlimited, limited}} {
		t.Run(c.before, func(t *testing.T) {
			t.Parallel()
			url, next := steppedUpstream(t, eventStreamHead, "data: 1\n\n")
			server, address, recorded := start(t, routeConfig(url, c.before))
			go func() { next <- struct{}{} }()
			res, err := http.Get("http://" + address + "/svc")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if err := server.Apply(parse(t, routeConfig(url, c.after))); err != nil {
				t.Fatal(err)
			}
			if c.before == unlimited {
				time.Sleep(1500 * time.Millisecond)
				next <- struct{}{}
			}
			_, err = io.ReadAll(res.Body)
			o := recorded.next(t)
			if failed := o.Failure != nil && o.Failure.Type == events.ErrorIdle; failed != (c.before == limited) || (err != nil) != failed {
				t.Errorf("%v, %+v %+v", err, o, o.Failure)
			}
		})
	}
}

// Limits of streams do not apply to responses of known length, responses without a body, and tunnels.
func TestStreamLimitsApplyToStreamsOnly(t *testing.T) {
	const keys = "stream: {first_event_timeout: 0.3s, min_bytes_per_second: 1000000, window: 0.3s}"
	t.Run("known length", func(t *testing.T) {
		t.Parallel()
		url, next := steppedUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", strings.Repeat("x", 50_000), strings.Repeat("x", 50_000))
		_, address, recorded := start(t, routeConfig(url, keys))
		go func() {
			for range 3 {
				time.Sleep(700 * time.Millisecond)
				next <- struct{}{}
			}
		}()
		if _, body := get(t, "http://"+address+"/svc"); len(body) != 100_000 {
			t.Errorf("%d bytes", len(body))
		}
		if o := recorded.next(t); o.Result != events.ResultSuccess {
			t.Errorf("%+v %+v", o, o.Failure)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		t.Parallel()
		_, address, recorded := start(t, routeConfig(crawlingUpstream(t, eventStreamHead, ""), keys))
		res, err := http.Head("http://" + address + "/svc")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if o := recorded.next(t); o.Result != events.ResultSuccess {
			t.Errorf("%+v %+v", o, o.Failure)
		}
	})
	t.Run("tunnel", func(t *testing.T) {
		t.Parallel()
		url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, switchedResponse)
				time.Sleep(time.Second)
				_, _ = io.WriteString(c, "hi")
			}
		})
		_, address, recorded := start(t, routeConfig(url, keys))
		c, r := dial(t, address)
		_, _ = io.WriteString(c, upgradeRequest+"\r\n")
		if rest, err := io.ReadAll(r); err != nil || !strings.HasSuffix(string(rest), "\r\n\r\nhi") {
			t.Errorf("%q, %v", rest, err)
		}
		_ = c.Close()
		if o := recorded.next(t); o.Failure != nil {
			t.Errorf("%+v %+v", o, o.Failure)
		}
	})
}
