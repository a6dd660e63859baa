package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"cbproxy/internal/events"
	"cbproxy/internal/limit"
	"cbproxy/proxy"
)

// limitOf returns the limit on the requests in flight of svc.
func limitOf(server *proxy.Server) events.ConcurrencyLimit {
	return server.ConcurrencyLimits()["svc"]
}

// TestOverloadShrinksTheLimit checks which results of one request shrink a limit of 10. None of them makes it grow.
func TestOverloadShrinksTheLimit(t *testing.T) {
	answer := func(status int, header ...string) func(testing.TB) string {
		return func(t testing.TB) string {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for i := 0; i+1 < len(header); i += 2 {
					w.Header().Set(header[i], header[i+1])
				}
				w.WriteHeader(status)
			}))
			t.Cleanup(s.Close)
			return s.URL
		}
	}
	silent := func(t testing.TB) string {
		url, _, release := blockingUpstream(t)
		t.Cleanup(release)
		return url
	}
	for name, c := range map[string]struct {
		upstream func(testing.TB) string
		keys     string // of the route
		want     int64
	}{
		"200":                            {answer(200), "timeout: 10s", 10},
		"404":                            {answer(404), "timeout: 10s", 10},
		"500":                            {answer(500), "timeout: 10s", 10},
		"503":                            {answer(503), "timeout: 10s", 9},
		"504":                            {answer(504), "timeout: 10s", 9},
		"503 with a retry":               {answer(503), "retry: {attempts: 1, backoff: 1ms}", 8},
		"503 that is no failure":         {answer(503), "breaker: {failure_statuses: [500]}", 10},
		"503 that names a time":          {answer(503, "Retry-After", "1"), "breaker: {failure_statuses: [500]}", 9},
		"503 that is ignored":            {answer(503, "Retry-After", "1"), "breaker: {ignore_statuses: [503]}", 10},
		"503 with a breaker that is off": {answer(503), `breaker: {mode: "off"}`, 9},
		"429":                            {answer(429, "Retry-After", "1"), "timeout: 10s", 10},
		"429 that is a failure":          {answer(429), "breaker: {failure_statuses: [429]}", 9},
		"429 that opens the breaker":     {answer(429, "Retry-After", "1"), "breaker: {retry_after: {after: 9}}", 9},
		"timeout":                        {silent, "timeout: 50ms", 9},
		"refused connection":             {closedPort, "timeout: 10s", 10},
		"malformed response":             {respondWith("malformed\r\n\r\n"), "timeout: 10s", 10},
		"truncated response":             {respondWith("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nx"), "timeout: 10s", 10},
	} {
		t.Run(name, func(t *testing.T) {
			server, address, recorded := start(t, routeConfig(c.upstream(t), "max_in_flight: auto", c.keys))
			if res, err := http.Get("http://" + address + "/svc"); err == nil {
				_ = res.Body.Close()
			}
			recorded.next(t)
			if got := limitOf(server); got != (events.ConcurrencyLimit{Limit: c.want, Auto: true}) {
				t.Errorf("%+v, want a limit of %d", got, c.want)
			}
		})
	}
}

func TestGRPCStatusesOfOverloadShrinkTheLimit(t *testing.T) {
	for status, want := range map[string]int64{"0": 10, "5": 10, "13": 10, "4": 9, "8": 9, "14": 9} {
		for _, inTrailers := range []bool{false, true} {
			url := h2cUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/grpc")
				if !inTrailers {
					w.Header().Set("Grpc-Status", status)
					return
				}
				_, _ = w.Write(make([]byte, 5))
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
			})
			server, address, recorded := start(t, routeConfig(url, "max_in_flight: auto"))
			callGRPC(t, address)
			recorded.next(t)
			if got := limitOf(server).Limit; got != want {
				t.Errorf("status %s, in trailers %v: the limit is %d, want %d", status, inTrailers, got, want)
			}
		}
	}
}

// A client that leaves, an injected fault and a probe change nothing, whatever their results are.
func TestResultsThatAreNotTheUpstreamsLoadChangeNoLimit(t *testing.T) {
	url, arrived, release := blockingUpstream(t)
	defer release()
	server, address, recorded := start(t, routeConfig(url, "max_in_flight: auto", "timeout: 50ms", "breaker: {fail_max: 1}"))
	unchanged := func(after string) {
		t.Helper()
		if got := limitOf(server); got != (events.ConcurrencyLimit{Limit: 10, Auto: true}) {
			t.Errorf("after %s: %+v", after, got)
		}
	}
	server.Breaker("svc").Force(events.HalfOpen, 0, "test")
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 504 {
		t.Errorf("a probe got %d", res.StatusCode)
	}
	recorded.next(t)
	<-arrived
	unchanged("a probe that timed out")

	if err := server.Apply(parse(t, routeConfig(url, "max_in_flight: auto", "breaker: {fail_max: 0}"))); err != nil {
		t.Fatal(err)
	}
	server.Breaker("svc").Force(events.Closed, 0, "test")
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-arrived; leave() }()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/svc", nil)
	if res, err := http.DefaultClient.Do(r); err == nil {
		_ = res.Body.Close()
	}
	if o := recorded.next(t); o.Result != events.ResultCancelled {
		t.Errorf("%+v", o)
	}
	unchanged("a client that left")

	inject(t, server, events.Fault{Kind: events.FaultAbort})
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 503 {
		t.Errorf("status %d", res.StatusCode)
	}
	recorded.next(t)
	unchanged("an injected fault")
}

// Streams that are open hold their permits, and have been answered.
func TestStreamsAreAnsweredAtTheirHeaders(t *testing.T) {
	end := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-end
	}))
	defer s.Close()
	server, address, recorded := start(t, routeConfig(s.URL, "max_in_flight: auto"))
	for range 19 {
		res, err := http.Get("http://" + address + "/svc")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
	}
	open := limitOf(server)
	if open.Limit <= 10 || open.InFlight != 19 { // from the 6th on, more than half of it is in use
		t.Errorf("with 19 open streams: %+v", open)
	}
	close(end)
	recorded.waitInFlight(t, 0)
	if ended := limitOf(server); ended.Limit != open.Limit || ended.InFlight != 0 {
		t.Errorf("after their end: %+v, before: %+v", ended, open)
	}
}

// While more than half of the limit is in use, an answer makes it grow by one at most, also one that is not read whole, and what is no
// success does not.
func TestOnlySuccessesGrowTheLimit(t *testing.T) {
	end := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
			_ = http.NewResponseController(w).Flush()
			<-end
		case "/small":
		default:
			status, _ := strconv.Atoi(r.URL.Path[1:])
			w.Header().Set("Content-Length", "100000")
			w.WriteHeader(status)
			_, _ = w.Write(make([]byte, 100000))
		}
	}))
	defer s.Close()
	defer close(end)
	server, address, _ := start(t, routeConfig(s.URL, "max_in_flight: auto", "breaker: {ignore_statuses: [404]}"))
	for range 8 {
		res, err := http.Get("http://" + address + "/svc/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
	}
	for path, most := range map[string]int64{"/small": 1, "/200": 1, "/404": 0, "/500": 0, "/429": 0} {
		before := limitOf(server).Limit
		get(t, "http://"+address+"/svc"+path)
		if grown := limitOf(server).Limit - before; grown < 0 || grown > most {
			t.Errorf("%s: the limit has grown by %d, want at most %d", path, grown, most)
		}
	}
}

// A reload that leaves max_in_flight at auto keeps what was found; another one forgets it.
func TestReloadKeepsTheLimitThatWasFound(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer s.Close()
	server, address, recorded := start(t, routeConfig(s.URL, "max_in_flight: auto", "breaker: {fail_max: 0}"))
	get(t, "http://"+address+"/svc")
	recorded.next(t)
	for _, step := range []struct {
		key  string
		want events.ConcurrencyLimit
	}{
		{"max_in_flight: auto", events.ConcurrencyLimit{Limit: 9, Auto: true}},
		{"max_in_flight: 7", events.ConcurrencyLimit{Limit: 7}},
		{"max_in_flight: auto", events.ConcurrencyLimit{Limit: 10, Auto: true}},
		{"max_in_flight: 0", events.ConcurrencyLimit{}},
	} {
		if err := server.Apply(parse(t, routeConfig(s.URL, step.key, "timeout: 5s", "breaker: {fail_max: 0}"))); err != nil {
			t.Fatal(err)
		}
		if got := limitOf(server); got != step.want {
			t.Errorf("%s: %+v, want %+v", step.key, got, step.want)
		}
	}
	if _, exists := server.ConcurrencyLimits()["svc"]; exists {
		t.Error("a service without a limit has one")
	}
}

// pool is an upstream with so many workers. It rejects a request while none is free. A worker is busy until finish.
type pool struct {
	workers int

	mu       sync.Mutex
	busy     int
	rejected int
	begun    chan struct{} // receives a value when a worker begins
	finished chan struct{} // closed by finish
}

func (p *pool) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	if p.busy == p.workers {
		p.rejected++
		p.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	p.busy++
	finished := p.finished
	p.mu.Unlock()
	p.begun <- struct{}{}
	<-finished
}

// finish lets all workers answer, and returns how many of them had a request, and how many requests were rejected since the last call.
func (p *pool) finish() (answered, rejected int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answered, rejected = p.busy, p.rejected
	close(p.finished)
	p.busy, p.rejected, p.finished = 0, 0, make(chan struct{})
	return answered, rejected
}

// TestAutoFindsTheSizeOfAPool sends rounds of 80 requests at once to a pool of an unknown size. In the end nearly all of its workers are
// busy, and it has to reject few requests. Nothing depends on time: a round ends when each request is with a worker or answered.
func TestAutoFindsTheSizeOfAPool(t *testing.T) {
	for _, workers := range []int{6, 50} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			p := &pool{workers: workers, begun: make(chan struct{}, workers), finished: make(chan struct{})}
			s := httptest.NewServer(p)
			defer s.Close()
			server, address, recorded := start(t, routeConfig(s.URL, "max_in_flight: auto", `breaker: {mode: "off"}`))
			const requests, rounds, settled = 80, 100, 60
			var answered, rejected int
			var limits []string
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: requests}}
			defer client.CloseIdleConnections()
			for round := range rounds {
				ended := make(chan struct{}, requests)
				for range requests {
					go func() {
						if res, err := client.Get("http://" + address + "/svc"); err == nil {
							_ = res.Body.Close()
						}
						ended <- struct{}{}
					}()
				}
				open, begun := requests, 0
				for begun < open {
					select {
					case <-p.begun:
						begun++
					case <-ended:
						open--
					}
				}
				a, r := p.finish()
				for range open {
					<-ended
				}
				recorded.waitInFlight(t, 0)
				limits = append(limits, fmt.Sprint(limitOf(server).Limit))
				if round >= settled {
					answered, rejected = answered+a, rejected+r
				}
			}
			t.Logf("%.1f of %d workers are busy, %.1f requests of a round are rejected; limits %s",
				float64(answered)/(rounds-settled), workers, float64(rejected)/(rounds-settled), strings.Join(limits, " "))
			if best := workers * (rounds - settled); answered < best*8/10 {
				t.Errorf("%d requests were answered, of at most %d", answered, best)
			}
			if rejected > answered/5 {
				t.Errorf("the upstream rejected %d requests and answered %d", rejected, answered)
			}
			if n := limitOf(server).Limit; n < limit.AIMDMin || n > int64(workers)*3/2 {
				t.Errorf("the limit is %d", n)
			}
		})
	}
}
