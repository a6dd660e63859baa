package telemetry

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/service"
)

func TestSpansDescribeTheOutcome(t *testing.T) {
	const (
		admitted = "; cbproxy.breaker.decision cbproxy.breaker.state=closed cbproxy.decision=admitted"
		fallback = "\nfallbacks: {svc: {try: [static], static: {body: {a: 1}}}}"
		ok       = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	)
	for name, c := range map[string]struct {
		response string   // of the upstream; "" if its port is closed
		keys     []string // of the route
		path     string
		status   int
		spans    []string // in the order of their ends
	}{
		"success": {ok, nil, "/svc/a", 200, []string{
			"client GET Unset cbproxy.breaker.state=closed cbproxy.outcome=success http.response.status_code=200",
			"server GET /svc Unset cbproxy.attempts=1 cbproxy.breaker.state=closed cbproxy.outcome=success http.response.status_code=200 http.route=/svc" + admitted,
		}},
		"a client error": {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", nil, "/svc", 404, []string{
			"client GET Error cbproxy.breaker.state=closed cbproxy.outcome=success error.type=404 http.response.status_code=404",
			"server GET /svc Unset cbproxy.attempts=1 cbproxy.breaker.state=closed cbproxy.outcome=success http.response.status_code=404 http.route=/svc" + admitted,
		}},
		"a failing status": {"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", nil, "/svc", 500, []string{
			"client GET Error cbproxy.breaker.state=closed cbproxy.outcome=failure error.type=500 http.response.status_code=500",
			"server GET /svc Error cbproxy.attempts=1 cbproxy.breaker.state=closed cbproxy.failure=status cbproxy.outcome=failure error.type=500 http.response.status_code=500 http.route=/svc" + admitted,
		}},
		"a fallback after two attempts": {"", []string{"retry: {attempts: 1, backoff: 1ms}", fallback}, "/svc", 200, []string{
			"client GET Error cbproxy.breaker.state=closed cbproxy.outcome=failure error.type=connect",
			"client GET Error cbproxy.breaker.state=closed cbproxy.outcome=failure error.type=connect http.request.resend_count=1",
			"server GET /svc Unset cbproxy.attempts=2 cbproxy.breaker.state=closed cbproxy.failure=connect cbproxy.fallback.reason=connect cbproxy.fallback.strategy=static " +
				"cbproxy.outcome=failure http.response.status_code=200 http.route=/svc" + admitted + "; cbproxy.retry" + admitted +
				"; cbproxy.fallback cbproxy.fallback.reason=connect cbproxy.fallback.strategy=static",
		}},
		"the breaker opens between two attempts": {"", []string{"breaker: {fail_max: 1}", "retry: {attempts: 1, backoff: 1ms}"}, "/svc", 502, []string{
			"client GET Error cbproxy.breaker.state=closed cbproxy.outcome=failure error.type=connect",
			"server GET /svc Error cbproxy.attempts=1 cbproxy.breaker.state=closed cbproxy.failure=connect cbproxy.outcome=failure error.type=502 http.response.status_code=502 http.route=/svc" + admitted,
		}},
		"no route":   {ok, nil, "/elsewhere", 404, []string{"server GET Unset http.response.status_code=404"}},
		"a bad path": {ok, nil, "/svc/%2e%2e/x", 400, []string{"server GET Unset http.response.status_code=400"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := "http://127.0.0.1:1"
			if c.response != "" {
				upstream = startRawUpstream(t, c.response)
			}
			p := startTraced(t, route(upstream, c.keys...))
			if status := p.send(t, "GET", c.path); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			spans := p.await(t, 1)
			if len(spans) != len(c.spans) {
				t.Fatalf("%d spans, want %d", len(spans), len(c.spans))
			}
			root := spans[len(spans)-1]
			for i, s := range spans {
				if got := describeSpan(s); got != c.spans[i] {
					t.Errorf("got  %s\nwant %s", got, c.spans[i])
				}
				if s != root && s.Parent().SpanID() != root.SpanContext().SpanID() {
					t.Error("the span of the attempt is not a child of the request's span")
				}
				if s.StartTime().Before(root.StartTime()) || s.EndTime().After(root.EndTime()) || s.EndTime().Before(s.StartTime()) {
					t.Errorf("%s lasts from %v to %v, its request from %v to %v", s.Name(), s.StartTime(), s.EndTime(), root.StartTime(), root.EndTime())
				}
			}
		})
	}
}

func TestSpansOfRejectedRequests(t *testing.T) {
	for name, c := range map[string]struct {
		state events.State
		want  string
	}{
		"open": {events.Open, "server GET /svc Error cbproxy.attempts=0 cbproxy.breaker.state=open cbproxy.outcome=rejected cbproxy.reason=open error.type=503 http.response.status_code=503 http.route=/svc" +
			"; cbproxy.breaker.decision cbproxy.breaker.state=open cbproxy.decision=rejected cbproxy.reason=open"},
		"shed": {events.Closed, "server GET /svc Error cbproxy.attempts=0 cbproxy.breaker.state=closed cbproxy.outcome=rejected cbproxy.reason=overload cbproxy.shed=route error.type=503 http.response.status_code=503 http.route=/svc" +
			"; cbproxy.shed cbproxy.breaker.state=closed cbproxy.decision=rejected cbproxy.reason=overload"},
	} {
		t.Run(name, func(t *testing.T) {
			arrived, release := make(chan struct{}, 1), make(chan struct{})
			u := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release }))
			defer u.Close()
			p := startTraced(t, route(u.URL, "max_in_flight: 1"))
			first := make(chan int, 1)
			if c.state == events.Open {
				p.Breaker("svc").Force(events.Open, 0, "test")
				first <- 0
				close(release)
			} else {
				go func() { first <- p.send(t, "GET", "/svc") }()
				<-arrived
			}
			if status := p.send(t, "GET", "/svc"); status != 503 {
				t.Errorf("status %d", status)
			}
			if got := describeSpan(p.await(t, 1)[0]); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if c.state != events.Open {
				close(release)
			}
			<-first
		})
	}
}

// A failed gRPC call has the HTTP status 200.
// The span of a request that a closed breaker rejects states why, with and without a fallback.
func TestSpansOfRequestsThatAClosedBreakerRejects(t *testing.T) {
	for reason, keys := range map[string]string{
		"throttled":  "breaker: {fail_max: 0, algorithm: throttle, throttle: {success_ratio: 1, aggression: 1000, max_rejection: 1, min_rps: 0}}",
		"recovering": "breaker: {fail_max: 0, recovery_ramp: 1h}",
	} {
		for _, fallback := range []string{"", "\nfallbacks: {svc: {static: {status: 203, body: {a: 1}}}}"} {
			t.Run(reason+fallback, func(t *testing.T) {
				p := startTraced(t, route(startRawUpstream(t, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), keys, fallback))
				if reason == "recovering" { // a closed state that is not the first one
					p.Breaker("svc").Force(events.Open, 0, "test")
					p.Breaker("svc").SetState(breaker.StateOverride{State: events.Closed})
				}
				status, requests := 500, 0
				for ; status == 500; requests++ {
					status = p.send(t, "GET", "/svc")
				}
				spans := p.await(t, requests)
				want := "server GET /svc Error cbproxy.attempts=0 cbproxy.breaker.state=closed cbproxy.outcome=rejected cbproxy.reason=REASON " +
					"error.type=503 http.response.status_code=503 http.route=/svc" +
					"; cbproxy.breaker.decision cbproxy.breaker.state=closed cbproxy.decision=rejected cbproxy.reason=REASON"
				if fallback != "" {
					want = "server GET /svc Unset cbproxy.attempts=0 cbproxy.breaker.state=closed cbproxy.fallback.reason=REASON cbproxy.fallback.strategy=static " +
						"cbproxy.outcome=rejected cbproxy.reason=REASON http.response.status_code=203 http.route=/svc" +
						"; cbproxy.breaker.decision cbproxy.breaker.state=closed cbproxy.decision=rejected cbproxy.reason=REASON" +
						"; cbproxy.fallback cbproxy.fallback.reason=REASON cbproxy.fallback.strategy=static"
				}
				want = strings.ReplaceAll(want, "REASON", reason)
				if got := describeSpan(spans[len(spans)-1]); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			})
		}
	}
}

func TestSpansOfGRPCCalls(t *testing.T) {
	u := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", r.Header.Get("X-Code"))
	}))
	u.Config.Protocols = new(http.Protocols)
	u.Config.Protocols.SetUnencryptedHTTP2(true)
	u.Start()
	defer u.Close()
	p := startTraced(t, route(strings.Replace(u.URL, "http:", "h2c:", 1)))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	call := func(code string) {
		t.Helper()
		p.spans.Reset()
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+p.address+"/svc/pkg.Service/Method", strings.NewReader("\x00\x00\x00\x00\x00"))
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("X-Code", code)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	for code, want := range map[string]string{
		"0":  "server POST /svc Unset cbproxy.attempts=1 cbproxy.breaker.state=closed cbproxy.outcome=success http.response.status_code=200 http.route=/svc rpc.response.status_code=OK",
		"5":  "server POST /svc Unset cbproxy.attempts=1 cbproxy.breaker.state=closed cbproxy.outcome=success http.response.status_code=200 http.route=/svc rpc.response.status_code=NOT_FOUND",
		"14": "server POST /svc Error cbproxy.attempts=1 cbproxy.breaker.state=closed cbproxy.failure=grpc cbproxy.outcome=failure error.type=UNAVAILABLE http.response.status_code=200 http.route=/svc rpc.response.status_code=UNAVAILABLE",
	} {
		call(code)
		if got, _, _ := strings.Cut(describeSpan(p.await(t, 1)[1]), ";"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	p.Breaker("svc").Force(events.Open, 0, "test")
	call("0")
	want := "server POST /svc Error cbproxy.attempts=0 cbproxy.breaker.state=open cbproxy.outcome=rejected cbproxy.reason=open error.type=UNAVAILABLE http.response.status_code=200 http.route=/svc rpc.response.status_code=UNAVAILABLE"
	if got, _, _ := strings.Cut(describeSpan(p.await(t, 1)[0]), ";"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The spans of a streamed response end when the stream ends.
func TestSpanLastsUntilStreamEnds(t *testing.T) {
	release := make(chan struct{})
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-release
	}))
	defer u.Close()
	p := startTraced(t, route(u.URL))
	res, err := http.Get("http://" + p.address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if ended := p.spans.Ended(); len(ended) > 0 {
		t.Fatalf("ended: %s", describeSpan(ended[0]))
	}
	close(release)
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "begun" {
		t.Fatalf("%q, %v", body, err)
	}
	for _, s := range p.await(t, 1) {
		if s.EndTime().Before(begun) {
			t.Errorf("%s ended before its stream did", describeSpan(s))
		}
	}
}

func TestSpanNamesTheInjectedFault(t *testing.T) {
	p := startTraced(t, route("http://127.0.0.1:1"))
	f, err := p.Faults("svc").Start(events.Fault{Kind: events.FaultAbort, Status: 500, Share: 1, Duration: events.Duration(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get("http://" + p.address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	span := p.await(t, 1)[0]
	want := "client GET Error cbproxy.breaker.state=closed cbproxy.fault.id=" + f.ID + " cbproxy.fault.kind=abort cbproxy.outcome=failure error.type=500 http.response.status_code=500"
	if got, _, _ := strings.Cut(describeSpan(span), ";"); got != want || !strings.Contains(span.Status().Description, "injected fault "+f.ID) {
		t.Errorf("got  %s, %q\nwant %s", got, span.Status().Description, want)
	}
}

func TestSpansNameEndpointAndHedge(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tracer := newTracer(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), propagation.TraceContext{})
	header := map[string][]string{}
	request := tracer.Request(&events.AccessRecord{Method: "GET", Arrived: time.Now()}, header)
	for _, end := range []struct{ hedge, won bool }{{false, false}, {true, true}, {true, false}} {
		attempt := &events.Attempt{
			Method: "GET", URL: "http://rag:8000/x", Scheme: "http", Host: "rag:8000", Service: "svc", Endpoint: "http://10.0.0.7:8000", Hedge: end.hedge, Start: time.Now(),
		}
		request.Attempt(attempt, header).End(&events.AttemptEnd{Time: time.Now(), Status: 200, HedgeWon: end.won, Result: events.ResultSuccess})
	}
	for i, want := range []string{"", "won", "lost"} {
		attributes := attribute.NewSet(spans.Ended()[i].Attributes()...)
		endpoint, _ := attributes.Value("cbproxy.endpoint")
		hedge, _ := attributes.Value("cbproxy.hedge")
		if endpoint.AsString() != "http://10.0.0.7:8000" || hedge.AsString() != want {
			t.Errorf("attempt %d: endpoint %q, hedge %q, want %q", i, endpoint.AsString(), hedge.AsString(), want)
		}
	}
}

func TestSpansOfTruncatedResponseAndCancelledRequest(t *testing.T) {
	p := startTraced(t, route(startRawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 70_000))))
	res, err := http.Get("http://" + p.address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	spans := p.await(t, 1)
	for i, want := range []string{"client GET Error cbproxy.breaker.state=closed cbproxy.outcome=failure error.type=truncated http.response.status_code=200",
		"server GET /svc Error cbproxy.attempts=1 cbproxy.breaker.state=closed cbproxy.cut=true cbproxy.failure=truncated cbproxy.outcome=failure error.type=truncated http.response.status_code=200 http.route=/svc"} {
		if got, _, _ := strings.Cut(describeSpan(spans[i]), ";"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}

	arrived := make(chan struct{})
	u := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(arrived); <-r.Context().Done() }))
	defer u.Close()
	p = startTraced(t, route(u.URL))
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived
	_ = c.Close()
	spans = p.await(t, 1)
	if got := describeSpan(spans[0]); got != "client GET Unset cbproxy.breaker.state=closed cbproxy.outcome=cancelled" {
		t.Error(got)
	}
	if got, _, _ := strings.Cut(describeSpan(spans[1]), ";"); got != "server GET /svc Unset cbproxy.attempts=1 cbproxy.breaker.state=closed cbproxy.cut=true cbproxy.outcome=cancelled http.route=/svc" {
		t.Error(got)
	}
}

const (
	clientTrace = "0af7651916cd43dd8448eb211c80319c"
	clientSpan  = "b7ad6b7169203331"
)

// The upstream receives the trace ID that the client sent, with the attempt's own span ID.
func TestTraceContextIsPropagated(t *testing.T) {
	headers := make(chan http.Header, 10)
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header
		if len(r.Header["X-Fail"]) > 0 {
			w.WriteHeader(503)
		}
	}))
	defer u.Close()
	for name, c := range map[string]struct {
		sampler             sdktrace.Sampler
		fields              []string
		continued, recorded bool
		state               string
		attempts            int
	}{
		"continued":               {sdktrace.ParentBased(sdktrace.AlwaysSample()), []string{"traceparent", "00-" + clientTrace + "-" + clientSpan + "-01", "tracestate", "a=b"}, true, true, "a=b", 1},
		"continued, not sampled":  {sdktrace.ParentBased(sdktrace.AlwaysSample()), []string{"traceparent", "00-" + clientTrace + "-" + clientSpan + "-00"}, true, false, "", 1},
		"started":                 {sdktrace.ParentBased(sdktrace.AlwaysSample()), nil, false, true, "", 1},
		"started, not sampled":    {sdktrace.NeverSample(), nil, false, false, "", 1},
		"malformed":               {sdktrace.ParentBased(sdktrace.AlwaysSample()), []string{"traceparent", "00-zz-zz-01", "tracestate", "a=b"}, false, true, "", 1},
		"a newer version":         {sdktrace.ParentBased(sdktrace.AlwaysSample()), []string{"traceparent", "cc-" + clientTrace + "-" + clientSpan + "-01-more"}, true, true, "", 1},
		"state without a trace":   {sdktrace.ParentBased(sdktrace.AlwaysSample()), []string{"tracestate", "a=b"}, false, true, "", 1},
		"each attempt has a span": {sdktrace.AlwaysSample(), []string{"traceparent", "00-" + clientTrace + "-" + clientSpan + "-01", "x-fail", "1"}, true, true, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := startTraced(t, route(u.URL, "retry: {attempts: 1, backoff: 1ms}"), sdktrace.WithSampler(c.sampler))
			p.send(t, "GET", "/svc", append(c.fields, "baggage", "k=v")...)
			seen := map[string]bool{}
			for range c.attempts {
				h := <-headers
				parts := strings.Split(h.Get("Traceparent"), "-")
				if len(parts) != 4 || len(h["Traceparent"]) != 1 || parts[0] != "00" {
					t.Fatalf("traceparent %q", h["Traceparent"])
				}
				if (parts[1] == clientTrace) != c.continued || parts[2] == clientSpan || (parts[3] == "01") != c.recorded || seen[parts[2]] {
					t.Errorf("traceparent %s", h.Get("Traceparent"))
				}
				if h.Get("Tracestate") != c.state || h.Get("Baggage") != "k=v" {
					t.Errorf("tracestate %q, baggage %q", h.Get("Tracestate"), h.Get("Baggage"))
				}
				seen[parts[2]] = true
			}
			if !c.recorded {
				return // the spans are not recorded
			}
			for _, s := range p.await(t, 1) {
				if s.SpanKind() == trace.SpanKindClient && !seen[s.SpanContext().SpanID().String()] {
					t.Error("the upstream received a span ID other than the attempt's")
				}
				if s.SpanKind() == trace.SpanKindServer && (s.Parent().SpanID().String() == clientSpan) != c.continued {
					t.Errorf("parent %s", s.Parent().SpanID())
				}
			}
		})
	}
}

// The fields that the tracer adds do not count against limits.header_bytes.
func TestTraceFieldsDoNotCountAgainstHeaderLimit(t *testing.T) {
	u := startRawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	p := startTraced(t, "limits: {header_bytes: 4KiB}\n"+route(u))
	send := func(padding int) int {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", padding)+"\r\n\r\n")
		var status int
		answer := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
		switch string(answer[9:]) {
		case "200":
			status = 200
		case "431":
			status = 431
		}
		return status
	}
	largest := 4096 - len("GET /svc HTTP/1.1\r\nHost: a\r\nX: \r\n")
	for send(largest) != 200 && largest > 4000 {
		largest--
	}
	if a, b := send(largest), send(largest+1); a != 200 || b != 431 {
		t.Errorf("status %d with %d bytes, %d with one byte more", a, largest, b)
	}
}

func TestDeliveryContinuesTraceOfQueuedRequest(t *testing.T) {
	headers := make(chan http.Header, 1)
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { headers <- r.Header; w.WriteHeader(503) }))
	defer u.Close()
	p := startTraced(t, route(u.URL))
	stored := http.Header{"Traceparent": {"00-" + clientTrace + "-" + clientSpan + "-01"}}
	if _, err := p.Deliver(t.Context(), &service.Delivery{Service: "svc", Method: "POST", UpstreamPath: "/a", Query: "secret=1", Header: stored, Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	spans := p.spans.Ended()
	if len(spans) != 1 {
		t.Fatalf("%d spans", len(spans))
	}
	s := spans[0]
	if got := describeSpan(s); got != "client POST Error cbproxy.breaker.state=closed cbproxy.delivery=true cbproxy.outcome=failure error.type=503 http.response.status_code=503" {
		t.Error(got)
	}
	if got, want := (<-headers).Get("Traceparent"), "00-"+clientTrace+"-"+s.SpanContext().SpanID().String()+"-01"; got != want || s.Parent().SpanID().String() != clientSpan {
		t.Errorf("traceparent %s, want %s; parent %s", got, want, s.Parent().SpanID())
	}
	if stored.Get("Traceparent") != "00-"+clientTrace+"-"+clientSpan+"-01" {
		t.Error("the delivery modified the queued request's header")
	}
}
