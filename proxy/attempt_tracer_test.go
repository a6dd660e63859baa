package proxy_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/proxy"
)

// attemptTracer is an events.Tracer that records the spans of attempts. It tells the upstream the number of the attempt, from 1 on, in the
// field X-Attempt: a hedge may arrive before the request that was sent first. Safe for concurrent use.
type attemptTracer struct {
	mu    sync.Mutex
	spans []*attemptSpan
}

// attemptSpan is the span of an attempt.
type attemptSpan struct {
	tracer *attemptTracer
	events.Attempt
	end  events.AttemptEnd
	ends int
}

func (tr *attemptTracer) Request(*events.AccessRecord, map[string][]string) events.RequestSpan {
	return requestSpan{tr}
}

func (tr *attemptTracer) Delivery(*events.Attempt, map[string][]string) events.AttemptSpan {
	return nil
}

// ended returns the spans that have ended once the count is reached.
func (tr *attemptTracer) ended(t *testing.T, count int) []attemptSpan {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		var all []attemptSpan
		tr.mu.Lock()
		for _, s := range tr.spans {
			if s.ends > 0 {
				all = append(all, *s)
			}
		}
		tr.mu.Unlock()
		if len(all) >= count {
			return all
		}
		if time.Now().After(limit) {
			t.Fatalf("%d spans have ended, want %d", len(all), count)
		}
	}
}

// requestSpan is an events.RequestSpan that records only the attempts.
type requestSpan struct{ tracer *attemptTracer }

func (requestSpan) IDs() (trace, span string)            { return "", "" }
func (requestSpan) Retry(time.Duration)                  {}
func (requestSpan) Rejected(events.State, events.Reason) {}
func (requestSpan) Fallback(string, events.Reason)       {}
func (requestSpan) End(*events.AccessRecord)             {}
func (r requestSpan) Attempt(a *events.Attempt, header map[string][]string) events.AttemptSpan {
	header["X-Attempt"] = []string{strconv.Itoa(a.Resends + 1)}
	s := &attemptSpan{tracer: r.tracer, Attempt: *a}
	r.tracer.mu.Lock()
	defer r.tracer.mu.Unlock()
	r.tracer.spans = append(r.tracer.spans, s)
	return s
}

func (s *attemptSpan) End(e *events.AttemptEnd) {
	s.tracer.mu.Lock()
	defer s.tracer.mu.Unlock()
	s.end, s.ends = *e, s.ends+1
}

// startTraced is start with an attemptTracer.
func startTraced(t testing.TB, text string) (server *proxy.Server, address string, recorded *recorder, tracer *attemptTracer) {
	t.Helper()
	tracer = new(attemptTracer)
	p := startProxy(t, text, proxyOptions{tracer: tracer})
	return p.Server, p.address, p.recorded, tracer
}
