package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/fallbacks"
)

// A request that is repeated gets the recorded response, whichever of its fields select the response: also one that it does not
// have, and one that is sent upstream in another form.
func TestRepeatedRequestGetsTheRecordedResponse(t *testing.T) {
	for name, test := range map[string]struct{ fields, vary, options string }{
		"no User-Agent":            {"", "User-Agent", ""},
		"no User-Agent in vary":    {"", "", "vary: [User-Agent]"},
		"empty User-Agent":         {"User-Agent:\r\n", "User-Agent", ""},
		"User-Agent":               {"User-Agent: a\r\n", "Accept-Encoding, User-Agent", ""},
		"TE":                       {"TE: trailers\r\nConnection: TE\r\n", "TE, Connection", ""},
		"upgrade that is refused":  {"Upgrade: websocket\r\nConnection: Upgrade\r\n", "Upgrade, Connection", ""},
		"removed field":            {"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=a\r\n", "X-Forwarded-For, Forwarded, Via", ""},
		"field named by itself":    {"X-A: b\r\nConnection: X-A\r\n", "X-A", ""},
		"body":                     {"Content-Length: 2\r\n", "Content-Length", ""},
		"spelling with underscore": {"X_Real_IP: 192.0.2.1\r\n", "X-Real-IP", "vary: [X_Real_IP]"},
	} {
		t.Run(name, func(t *testing.T) {
			var alive atomic.Bool
			alive.Store(true)
			url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if q, err := http.ReadRequest(r); err == nil && alive.Load() {
					_, _ = io.Copy(io.Discard, q.Body)
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nVary: "+test.vary+"\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
				}
			})
			_, address, recorded := start(t, "fallbacks: {svc: {try: [cache], cache: {"+test.options+"}}}\n"+routeConfig(url))
			request := "POST /svc HTTP/1.1\r\nHost: x\r\n" + test.fields + "\r\n"
			if strings.Contains(test.fields, "Content-Length") {
				request += "hi"
			} else {
				request = strings.Replace(request, "POST", "GET", 1)
			}
			c, r := dial(t, address)
			for _, up := range []bool{true, false} {
				alive.Store(up)
				if _, err := io.WriteString(c, request); err != nil {
					t.Fatal(err)
				}
				res := nextResponse(t, r)
				if fallback := res.Header.Get("X-Fallback"); res.StatusCode != 200 || (fallback == "cache") == up {
					t.Errorf("upstream available: %v: status %d, X-Fallback %q", up, res.StatusCode, fallback)
				}
				recorded.next(t)
				if res.Close {
					c, r = dial(t, address)
				}
			}
		})
	}
}

// observer is a strategy that has no answers and passes on when the requests were sent whose responses it observes.
type observer struct{ sent chan<- time.Time }

func (o observer) Answer(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
	return nil, errors.New("no answer")
}

func (o observer) BodyLimit() int64 { return 0 }

func (o observer) Record(r *fallbacks.Request, _ int, _ http.Header) fallbacks.Recorder {
	o.sent <- r.Sent
	return nil
}

var observed = make(chan time.Time, 100)

func init() {
	fallbacks.Register("test-observer", fallbacks.Factory[struct{}]{Inline: true, New: func(*struct{}, fallbacks.Env) (fallbacks.Strategy, error) {
		return observer{observed}, nil
	}})
}

// The time of a request whose response is recorded is that of the attempt which got the response.
func TestRecordedRequestHasTheTimeOfItsAttempt(t *testing.T) {
	var failed atomic.Pointer[time.Time]
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if now := time.Now(); failed.CompareAndSwap(nil, &now) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer upstream.Close()
	_, address, _ := start(t, "fallbacks: {svc: {try: [test-observer]}}\n"+routeConfig(upstream.URL, "retry: {attempts: 1, backoff: 1ms}"))
	get(t, "http://"+address+"/svc")
	if sent := <-observed; sent.Before(*failed.Load()) || sent.After(time.Now()) {
		t.Errorf("sent at %v, after the attempt that failed at %v", sent, failed.Load())
	}
}

// With status in when, a response with a failing status is replaced, by a problem if no strategy has an answer.
func TestFailingStatusIsReplacedOnRequest(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "overloaded", http.StatusServiceUnavailable)
	}))
	defer upstream.Close()
	for when, want := range map[string]int{"open, status": http.StatusBadGateway, "open": http.StatusServiceUnavailable} {
		_, address, _ := start(t, "fallbacks: {svc: {when: ["+when+"], try: [cache]}}\n"+routeConfig(upstream.URL))
		res, body := get(t, "http://"+address+"/svc")
		problem := res.Header.Get("Content-Type") == "application/problem+json"
		if res.StatusCode != want || problem == (body == "overloaded\n") || problem != (want == http.StatusBadGateway) {
			t.Errorf("when: [%s]: status %d, %q", when, res.StatusCode, body)
		}
	}
}
