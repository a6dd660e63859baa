package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

const eventStreamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

// steppedUpstream is an upstream that writes the next of texts for each value sent to next, and closes the connection after the last.
func steppedUpstream(t testing.TB, texts ...string) (url string, next chan<- struct{}) {
	signal := make(chan struct{})
	url = rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		for _, text := range texts {
			if _, ok := <-signal; !ok {
				return
			}
			_, _ = io.WriteString(c, text)
		}
	})
	return url, signal
}

// Events named in sse_error_events are failures. Scanning for them delays no part of the stream.
func TestSSEErrorEventsAreFailuresAndNotDelayed(t *testing.T) {
	for name, c := range map[string]struct {
		parts  []string
		failed bool
	}{
		"listed":               {[]string{"event: error\ndata: x\n\n"}, true},
		"listed, split":        {[]string{"data: 1\n\nev", "ent:", " err", "or\r", "\ndata: x\r\n\r", "\n"}, true},
		"second name, BOM":     {[]string{"\uFEFFevent:fatal\rdata: x\r\r"}, true},
		"not terminated":       {[]string{"event: error\ndata: x"}, true},
		"not listed":           {[]string{"event: errors\ndata: error\n\n", "event: erro\n\n", ":event: error\n\n", "data: event: error\n\n"}, false},
		"overwritten":          {[]string{"event: error\nevent: fine\ndata: x\n\n"}, false},
		"two spaces":           {[]string{"event:  error\n\n"}, false},
		"very long name":       {[]string{"event: error" + strings.Repeat("x", 10000) + "\n\n"}, false},
		"encoded":              {[]string{"", "event: error\n\n"}, false},
		"not an event stream":  {[]string{"", "event: error\n\n"}, false},
		"listed, then comment": {[]string{"event: error\n\n", ": comment\n\n"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			head := eventStreamHead
			switch name {
			case "encoded":
				head = strings.Replace(head, "\r\n\r\n", "\r\nContent-Encoding: br\r\n\r\n", 1)
			case "not an event stream":
				head = strings.Replace(head, "event-stream", "plain", 1)
			}
			url, next := steppedUpstream(t, append([]string{head}, c.parts...)...)
			_, address, recorded := start(t, routeConfig(url, "breaker: {fail_max: 1, sse_error_events: [error, fatal]}"))
			go func() { next <- struct{}{} }()
			res, err := http.Get("http://" + address + "/svc")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			for _, part := range c.parts {
				next <- struct{}{}
				got := make([]byte, len(part))
				if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != part {
					t.Fatalf("got %q, %v; want %q before the next part is sent", got, err, part)
				}
			}
			if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
				t.Errorf("rest %q, %v", rest, err)
			}
			o := recorded.next(t)
			if failed := o.Failure != nil && o.Failure.Type == events.ErrorSSE; failed != c.failed || len(recorded.failures) > 1 {
				t.Errorf("outcome %+v, failures %v", o, recorded.failures)
			}
		})
	}
}

// With stream_commit: first_byte, a stream that fails before its first byte is replaced by the fallback. A later failure truncates
// the response.
func TestFallbackReplacesStreamThatFailsBeforeFirstByte(t *testing.T) {
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	const fallback = "fallbacks: {svc: {try: [static], static: {body: {a: 1}}}}\n"
	for name, c := range map[string]struct {
		response string // all that the upstream writes
		idle     bool   // the connection stays open after the response
		status   int
		reason   string // "": the fallback is not used
		kind     events.ErrorType
	}{
		"truncated before the first byte": {chunked, false, 200, "reset", events.ErrorTruncated},
		"idle before the first byte":      {chunked, true, 200, "timeout", events.ErrorIdle},
		"truncated after the first byte":  {chunked + "2\r\nhi\r\n", false, 200, "", events.ErrorTruncated},
		"empty":                           {chunked + "0\r\n\r\n", false, 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := rawUpstream(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				_, _ = io.WriteString(conn, c.response)
				if c.idle {
					_, _ = r.ReadByte()
				}
			})
			_, address, recorded := start(t, fallback+routeConfig(url, "stream_commit: first_byte", "idle_timeout: 0.3", "breaker: {fail_max: 5}"))
			res, err := http.Get("http://" + address + "/svc")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			o := recorded.next(t)
			if res.StatusCode != c.status || res.Header.Get("X-Fallback-Reason") != c.reason {
				t.Errorf("status %d, %v", res.StatusCode, res.Header)
			}
			if c.reason != "" && string(body) != `{"a":1}` {
				t.Errorf("body %q", body)
			}
			if c.reason == "" && c.kind != "" && (err == nil || string(body) != "hi") {
				t.Errorf("body %q, %v; want hi and an error", body, err)
			}
			if c.kind == "" != (o.Failure == nil) || o.Failure != nil && o.Failure.Type != c.kind {
				t.Errorf("outcome %+v %+v", o, o.Failure)
			}
		})
	}
}

// With stream_commit: first_byte, the header section is sent together with the first byte of the body.
func TestStreamIsCommittedAtFirstByte(t *testing.T) {
	url, next := steppedUpstream(t, eventStreamHead, "data: 1\n\n", "data: 2\n\n")
	_, address, recorded := start(t, routeConfig(url, "stream_commit: first_byte"))
	responses := make(chan *http.Response, 1)
	go func() {
		res, err := http.Get("http://" + address + "/svc")
		if err != nil {
			t.Error(err)
		}
		responses <- res
	}()
	next <- struct{}{}
	select {
	case <-responses:
		t.Error("the header section was sent before the first byte")
	case <-time.After(50 * time.Millisecond):
	}
	next <- struct{}{}
	res := <-responses
	defer res.Body.Close()
	first := make([]byte, len("data: 1\n\n"))
	if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "data: 1\n\n" {
		t.Fatalf("%q, %v", first, err)
	}
	next <- struct{}{}
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "data: 2\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
	if o := recorded.next(t); o.Result != events.ResultSuccess {
		t.Errorf("%+v", o)
	}
}

// A client that stops reading a stream is disconnected after idle_timeout. That counts neither as success nor as failure of the
// upstream.
func TestClientThatStopsReadingAStreamIsDisconnected(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				_, _ = io.WriteString(c, eventStreamHead)
				for event := "data: " + strings.Repeat("x", 10_000) + "\n\n"; ; {
					if _, err := io.WriteString(c, event); err != nil {
						return
					}
				}
			})
			_, address, recorded := start(t, routeConfig(url, "idle_timeout: 0.3", "breaker: {fail_max: 1}"))
			client := http.DefaultClient
			if version == "HTTP/2" {
				client = h2cClient(t)
			}
			res, err := client.Get("http://" + address + "/svc")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if o := recorded.next(t); o.Result != events.ResultCancelled {
				t.Errorf("%+v %+v", o, o.Failure)
			}
		})
	}
}

// A stream whose pauses are shorter than idle_timeout ends with success.
func TestStreamWithinIdleTimeoutSucceeds(t *testing.T) {
	url, next := steppedUpstream(t, eventStreamHead, "data: 1\n\n", "data: 2\n\n")
	_, address, recorded := start(t, routeConfig(url, "idle_timeout: 5s"))
	go func() { next <- struct{}{}; next <- struct{}{}; next <- struct{}{} }()
	res, err := http.Get("http://" + address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "data: 1\n\ndata: 2\n\n" {
		t.Errorf("%q, %v", body, err)
	}
	if o := recorded.next(t); o.Result != events.ResultSuccess {
		t.Errorf("%+v", o)
	}
}

func TestStreamHeadersCloseAHalfOpenBreaker(t *testing.T) {
	url, next := steppedUpstream(t, eventStreamHead, "data: 1\n\n")
	server, address, recorded := start(t, routeConfig(url))
	server.Breaker("svc").Force(events.HalfOpen, 0, "test")
	go func() { next <- struct{}{} }()
	res, err := http.Get("http://" + address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("breaker is %v during the stream", state)
	}
	_ = res.Body.Close()
	close(next)
	recorded.next(t)
}
