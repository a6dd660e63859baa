package proxy_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"cbproxy/internal/events"
	"cbproxy/internal/service"
)

// viaUpstream starts an upstream that returns a request's Via fields in X-Received-Via.
func viaUpstream(t testing.TB) (url string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Received-Via", strings.Join(r.Header.Values("Via"), ", "))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestRequestsCarryVia(t *testing.T) {
	upstream := viaUpstream(t)
	_, address, _ := startInstance(t, "node 1(é)", routeConfig(upstream))
	for request, want := range map[string]string{
		"GET /svc HTTP/1.1\r\n": "1.1 node-1---",
		"GET /svc HTTP/1.0\r\n": "1.0 node-1---",
		"GET /svc HTTP/1.1\r\nVia: 1.0 fred, HTTP/1.1 p.example.net (Apache/1.1)\r\nVia: 2 other\r\n": "1.0 fred, HTTP/1.1 p.example.net (Apache/1.1), 2 other, 1.1 node-1---",
		"GET /svc HTTP/1.1\r\nConnection: Via\r\nVia: 1.0 fred\r\n":                                   "1.1 node-1---",
	} {
		got := rawResponse(t, address, request+"Host: x\r\nConnection: close\r\n\r\n", "")
		if !strings.Contains(got, "X-Received-Via: "+want+"\r\n") || strings.Contains(got, "\r\nVia:") {
			t.Errorf("%q: %q, want Via %q to the upstream, and none to the client", request, got, want)
		}
	}
	r, _ := http.NewRequest(http.MethodGet, "http://"+address+"/svc", nil)
	res, err := h2cClient(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got := res.Header.Get("X-Received-Via"); got != "2 node-1---" {
		t.Errorf("over HTTP/2: %q", got)
	}
}

// A request that returns to the proxy is answered with 508 before it is routed again.
func TestLoopsAreDetected(t *testing.T) {
	for _, scheme := range []string{"http", "h2c"} {
		_, address, recorded := startInstance(t, "", routeConfig(scheme+"://SELF/svc"))
		for _, method := range []string{"GET", "POST"} {
			got := rawResponse(t, address, method+" /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "")
			if !strings.HasPrefix(got, "HTTP/1.1 508 Loop Detected\r\n") || !strings.Contains(got, "X-Circuit-Breaker-State: closed\r\n") ||
				!strings.Contains(got, "Proxy-Status: cbproxy; error=proxy_loop_detected\r\n") {
				t.Errorf("%s over %s: %q", method, scheme, got)
			}
			if o := recorded.next(t); o.Result != events.ResultFailure || o.Failure.Type != events.ErrorStatus || o.Attempts != 1 {
				t.Errorf("%s over %s: %+v", method, scheme, o)
			}
			select {
			case <-recorded.ended:
				t.Errorf("%s over %s: a second request was routed", method, scheme)
			default:
			}
		}
	}
	_, address, recorded := startInstance(t, "me", routeConfig(viaUpstream(t)))
	for via, status := range map[string]string{"1.1 me": "508", "1.0 a, 2 ME (x)": "508", "1.1 meme, 1.1 me2": "200", "me": "200"} {
		got := rawResponse(t, address, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Via, close\r\nVia: "+via+"\r\n\r\n", "")
		if !strings.HasPrefix(got, "HTTP/1.1 "+status+" ") {
			t.Errorf("Via: %s: %q, want %s", via, got, status)
		}
		if status != "200" && !strings.Contains(got, "Proxy-Status: cbproxy; error=proxy_loop_detected\r\n") {
			t.Errorf("Via: %s: %q", via, got)
		}
	}
	for range 2 {
		recorded.next(t)
	}
	if n := len(recorded.ended); n != 0 {
		t.Errorf("%d requests of a loop were routed", n)
	}
}

// If a client names a proxy that is the upstream of this one in Via, that proxy responds with 508. This must not open the breaker.
func TestClientsCannotOpenABreakerByVia(t *testing.T) {
	_, second, _ := startInstance(t, "b", routeConfig(viaUpstream(t)))
	_, first, recorded := startInstance(t, "a", routeConfig("http://"+second+"/svc"))
	got := rawResponse(t, first, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nVia: 1.1 b\r\n\r\n", "")
	if o := recorded.next(t); !strings.HasPrefix(got, "HTTP/1.1 508 ") || o.Result != events.ResultCancelled || o.Failure != nil {
		t.Errorf("%q, %+v", got, o)
	}
}

// Two chained proxies are no loop. A loop through both ends when the request reaches the first proxy for the second time.
func TestChainedProxiesAreNoLoop(t *testing.T) {
	_, second, _ := startInstance(t, "b", routeConfig(viaUpstream(t)))
	_, first, _ := startInstance(t, "a", routeConfig("http://"+second+"/svc"))
	if res, _ := get(t, "http://"+first+"/svc"); res.StatusCode != 200 || res.Header.Get("X-Received-Via") != "1.1 a, 1.1 b" {
		t.Errorf("status %d, Via %q", res.StatusCode, res.Header.Get("X-Received-Via"))
	}
	var loopStart atomic.Pointer[string] // URL of the loop's first proxy
	var rounds atomic.Int64
	loop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rounds.Add(1)
		out, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, *loopStart.Load(), nil)
		out.Header = r.Header
		res, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
	}))
	defer loop.Close()
	_, inner, _ := startInstance(t, "b", routeConfig(loop.URL))
	_, outer, _ := startInstance(t, "a", routeConfig("http://"+inner+"/svc"))
	url := "http://" + outer + "/svc"
	loopStart.Store(&url)
	if res, _ := get(t, url); res.StatusCode != http.StatusLoopDetected || rounds.Load() != 1 {
		t.Errorf("status %d after %d rounds, want 508 after one", res.StatusCode, rounds.Load())
	}
}

// Requests of fallback strategies, deliveries and probes have a Via field, too.
func TestFallbackDeliveryAndProbeRequestsCarryVia(t *testing.T) {
	requests := make(chan string, 100)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r.Method + " " + r.URL.Path + " " + strings.Join(r.Header.Values("Via"), ", ")
		if r.URL.Path == "/endpoint" {
			_, _ = io.WriteString(w, `{"status": 200}`)
		}
	}))
	defer upstream.Close()
	server, address, _ := startInstance(t, "me", "fallbacks:\n  second: {try: [upstream], upstream: {url: "+upstream.URL+"/second}}\n"+
		"  endpoint: {try: [http], http: {url: "+upstream.URL+"/endpoint}}\nroutes:\n"+
		"  second: {prefix: /a, upstream: 'http://127.0.0.1:1', fallback: second}\n  endpoint: {prefix: /b, upstream: 'http://127.0.0.1:1', fallback: endpoint}\n"+
		"  svc: {prefix: /svc, upstream: "+upstream.URL+"}\n"+
		"  probed: {prefix: /p, upstream: "+upstream.URL+", breaker: {fail_max: 1, recovery_timeout: 0.001, probe: {path: /probe}, failure_statuses: [200]}}\n")
	next := func(want string) {
		t.Helper()
		if got := <-requests; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	get(t, "http://"+address+"/a")
	next("GET /second 1.1 me")
	get(t, "http://"+address+"/b")
	next("POST /endpoint 1.1 me")
	d := &service.Delivery{Service: "svc", Method: "POST", UpstreamPath: "/queued", Header: http.Header{"Via": {"1.0 fred"}}, Body: []byte("x")}
	for range 2 { // Via is the same for each attempt
		if _, err := server.Deliver(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		next("POST /queued 1.0 fred, 1.1 me")
	}
	get(t, "http://"+address+"/p")
	next("GET / 1.1 me")
	next("GET /probe 1.1 me")
}

// A request that was queued before a restart or by another instance has that instance's name in Via. That is no loop.
func TestDeliveriesOfAnotherInstanceAreNoLoop(t *testing.T) {
	var via atomic.Pointer[string]
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s := strings.Join(r.Header.Values("Via"), ", ")
		via.Store(&s)
	}))
	defer upstream.Close()
	server, _, _ := startInstance(t, "new", routeConfig(upstream.URL))
	var body bytes.Buffer
	d := &service.Delivery{Service: "svc", Method: "POST", UpstreamPath: "/", Header: http.Header{"Via": {"1.1 old"}}, Body: body.Bytes()}
	if a, err := server.Deliver(t.Context(), d); err != nil || a.Status != 200 || *via.Load() != "1.1 old, 1.1 new" {
		t.Errorf("%+v, %v, Via %v", a, err, via.Load())
	}
}
