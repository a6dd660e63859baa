package proxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// h2cUpstream starts an upstream that speaks HTTP/2 without TLS.
func h2cUpstream(t testing.TB, handler http.HandlerFunc) (url string) {
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http:", "h2c:", 1)
}

// callGRPC makes a gRPC call with an empty message and returns its response with trailers.
func callGRPC(t testing.TB, address string, header ...string) *http.Response {
	t.Helper()
	r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc/pkg.Service/Method", strings.NewReader("\x00\x00\x00\x00\x00"))
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := h2cClient(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res
}

func TestGRPCStatusesAreClassified(t *testing.T) {
	trailersOnly := func(status string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", status)
			w.Header().Set("Grpc-Message", "50%25 off")
		}
	}
	inTrailers := func(status string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/grpc+proto")
			_, _ = io.WriteString(w, "\x00\x00\x00\x00\x00")
			if status != "" {
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
			}
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		failed  bool
	}{
		"UNAVAILABLE, trailers-only":    {trailersOnly("14"), true},
		"UNAVAILABLE in trailers":       {inTrailers("14"), true},
		"OK":                            {inTrailers("0"), false},
		"NOT_FOUND":                     {inTrailers("5"), false},
		"NOT_FOUND, trailers-only":      {trailersOnly("5"), false},
		"no status, treated as UNKNOWN": {inTrailers(""), true},
		"malformed":                     {inTrailers("fourteen"), true},
		"undefined code":                {inTrailers("99"), false},
		"INTERNAL, not configured":      {inTrailers("13"), false},
		"not gRPC": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Grpc-Status", "14")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := h2cUpstream(t, c.handler)
			server, address, recorded := start(t, routeConfig(url, "breaker: {fail_max: 1, grpc_failure_codes: [UNAVAILABLE, UNKNOWN]}"))
			res := callGRPC(t, address)
			o := recorded.next(t)
			if failed := o.Failure != nil && o.Failure.Type == events.ErrorGRPC; failed != c.failed {
				t.Errorf("outcome %+v %+v", o, o.Failure)
			}
			if opened := server.Breaker("svc").State() == events.Open; opened != c.failed {
				t.Errorf("breaker %v", server.Breaker("svc").State())
			}
			if strings.Contains(name, "trailers-only") && res.Header.Get("Grpc-Status") == "" {
				t.Errorf("the upstream's response was changed: %v %v", res.Header, res.Trailer)
			}
			if c.failed && strings.Contains(name, "trailers-only") && !strings.Contains(o.Failure.Detail, "50% off") {
				t.Errorf("failure %q does not contain the message", o.Failure.Detail)
			}
		})
	}
}

// A gRPC caller gets a trailers-only response instead of a problem in JSON.
func TestGRPCCallerGetsATrailersOnlyStatus(t *testing.T) {
	const fallback = "fallbacks: {svc: {try: [static], static: {body: {a: 1}}}}\n"
	url := h2cUpstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for name, c := range map[string]struct {
		config string
		force  bool
		header []string
		status string
		reason string
	}{
		"open":                  {routeConfig(url), true, nil, "14", ""},
		"open, with a fallback": {fallback + routeConfig(url), true, nil, "14", "open"},
		"timeout":               {fallback + routeConfig(url, "timeout: 0.1"), false, nil, "14", "timeout"},
		"connect":               {fallback + routeConfig("h2c://127.0.0.1:1"), false, nil, "14", "connect"},
		"the caller's deadline": {routeConfig(url), false, []string{"Grpc-Timeout", "100m"}, "4", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, address, recorded := start(t, c.config)
			if c.force {
				server.Breaker("svc").Force(events.Open, time.Minute, "test")
			}
			res := callGRPC(t, address, c.header...)
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/grpc" || res.Header.Get("Grpc-Status") != c.status ||
				res.Header.Get("Grpc-Message") == "" || res.Header.Get("X-Fallback-Reason") != c.reason || res.Header.Get("Proxy-Status") == "" {
				t.Errorf("%d %v", res.StatusCode, res.Header)
			}
			if c.force && res.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			o := recorded.next(t)
			if !c.force && (o.Failure == nil || strings.Contains(name, "deadline") && o.Failure.Type != events.ErrorTimeout) {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

// A call that ends at the deadline that the caller has announced is a failure of the upstream, whether the caller waits for the
// response or cancels the call. A call that is cancelled before the deadline, or whose deadline is too short, counts neither as
// success nor as failure.
func TestExpiredCallerDeadlineIsAFailureUnlessTooShort(t *testing.T) {
	for name, c := range map[string]struct {
		grpcTimeout string
		cancelAfter time.Duration // from the call's arrival at the upstream on; 0: the caller waits
		result      events.Result
	}{
		"expires":                  {"200m", 0, events.ResultFailure},
		"expires, cancelled":       {"1S", 970 * time.Millisecond, events.ResultFailure},
		"cancelled long before":    {"20S", 100 * time.Millisecond, events.ResultCancelled},
		"too short":                {"1n", 0, events.ResultCancelled},
		"too short, and cancelled": {"50m", 60 * time.Millisecond, events.ResultCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			url := h2cUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
				if c.cancelAfter > 0 {
					defer time.AfterFunc(c.cancelAfter, cancel).Stop()
				}
				<-r.Context().Done()
			})
			server, address, recorded := start(t, routeConfig(url, "breaker: {fail_max: 1}"))
			r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/svc", strings.NewReader("x"))
			r.Header.Set("Content-Type", "application/grpc")
			r.Header.Set("Grpc-Timeout", c.grpcTimeout)
			res, err := h2cClient(t).Do(r)
			if err == nil {
				_ = res.Body.Close()
				if res.Header.Get("Grpc-Status") != "4" {
					t.Errorf("response %v, want DEADLINE_EXCEEDED", res.Header)
				}
			} else if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if o := recorded.next(t); o.Result != c.result {
				t.Errorf("%+v %+v", o, o.Failure)
			}
			if opened := server.Breaker("svc").State() == events.Open; opened != (c.result == events.ResultFailure) {
				t.Errorf("breaker %v", server.Breaker("svc").State())
			}
		})
	}
}

// Messages are forwarded in both directions during a call.
func TestGRPCStreamIsBidirectional(t *testing.T) {
	url := h2cUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		control := http.NewResponseController(w)
		_ = control.Flush()
		one := make([]byte, 1)
		for {
			if _, err := r.Body.Read(one); err != nil {
				break
			}
			_, _ = w.Write(one)
			_ = control.Flush()
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	_, address, recorded := start(t, routeConfig(url))
	body, send := io.Pipe()
	r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", body)
	r.Header.Set("Content-Type", "application/grpc")
	res, err := h2cClient(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for _, message := range []byte("hello") {
		if _, err := send.Write([]byte{message}); err != nil {
			t.Fatal(err)
		}
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
		t.Errorf("%+v", o)
	}
}
