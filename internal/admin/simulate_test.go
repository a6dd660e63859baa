package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
)

// simulateRequest returns a request to simulate.
func simulateRequest(query, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/simulate"+query, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// secondsOf returns calls a second apart, one for each letter: s for a success, f for a failure, r for one that was not made.
func secondsOf(letters string) (calls []events.Call) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	results := map[rune]events.Result{'s': events.ResultSuccess, 'f': events.ResultFailure, 'r': events.ResultRejected}
	for i, letter := range letters {
		calls = append(calls, events.Call{Time: begin.Add(time.Duration(i) * time.Second), Result: results[letter]})
	}
	return calls
}

func TestSimulateComparesWithTheBreakerInForce(t *testing.T) {
	h, bus := handler(&fakeBackend{calls: secondsOf("sfffsffrr")})
	sub := bus.Subscribe(10)
	defer sub.Close()
	const (
		config  = `"config":{"openings":1,"open_seconds":5,"refused":4,"refused_good":1,"failures_passed":3,"first_opening":"2026-01-01T00:00:03Z","transitions":[{"time":"2026-01-01T00:00:03Z","from":"closed","to":"open","cause":"consecutive_failures"},{"time":"2026-01-01T00:00:08Z","from":"open","to":"half-open","cause":"recovery_timeout"}]}`
		against = `"against":{"openings":0,"open_seconds":0,"refused":0,"refused_good":0,"failures_passed":5,"first_opening":null,"transitions":[]}`
		before  = `{"services":{"svc":{"calls":9,"failures":5,"unknown":2,`
		body    = `{"service":"svc","since":"2026-01-01T00:00:00Z","until":"2026-01-01T00:00:12Z","breaker":{"fail_max":3}}`
		buckets = `,"buckets":[{"time":"2026-01-01T00:00:00Z","calls":4,"failures":3,"rejected":0},{"time":"2026-01-01T00:00:04Z","calls":4,"failures":2,"rejected":1},{"time":"2026-01-01T00:00:08Z","calls":1,"failures":0,"rejected":1}]`
	)
	for query, more := range map[string]string{"": "", "?buckets=3": buckets} {
		want := before + config + "," + against + more + "}}}\n"
		if w := serve(h, simulateRequest(query, body)); w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%q: %d\n%s, want\n%s", query, w.Code, w.Body, want)
		}
	}
	bus.Publish(events.Reloaded{})
	if e, _, err := sub.Next(t.Context()); err != nil {
		t.Error(err)
	} else if _, ok := e.(events.Reloaded); !ok { // there is none of the simulation
		t.Errorf("event %+v", e)
	}
}

func TestSimulateWithoutCalls(t *testing.T) {
	h, _ := handler(&fakeBackend{})
	if w := serve(h, simulateRequest("?buckets=10", `{"service":"svc"}`)); w.Code != http.StatusOK || w.Body.String() != `{"services":{}}`+"\n" {
		t.Errorf("%d, %s", w.Code, w.Body)
	}
}

func TestSimulateRejectsInvalidRequests(t *testing.T) {
	for _, test := range []struct {
		query, body string
		status      int
		want        []string
	}{
		{"", `[]`, 400, []string{"the body must be a JSON object such as"}},
		{"", `{}`, 400, []string{"service: must be the name of a service, but is missing"}},
		{"", `{"service":"none"}`, 404, []string{`no service is named \"none\"`}},
		{"?buckets=1001", `{"service":"svc","since":"yesterday","until":1,"breaker":{"x":1},"from":1}`, 400, []string{
			"buckets: must be from 1 to 1000", "since: must be a time such as", "until: must be a time such as", "breaker.x: unknown key", "breaker.y: unknown key",
			"from: unknown key; the keys are service, since, until and breaker",
		}},
		{"", `{"service":"svc","breaker":[]}`, 400, []string{`breaker: must be an object such as {\"fail_max\": 3}, got []`}},
		{"", `{"service":"svc","since":"1h","until":"2h"}`, 400, []string{"since: must be before until"}},
		{"", `{"service":"svc","since":"0s"}`, 400, []string{"since: must be before until"}},
		{"", strings.Repeat(" ", 65<<10), 413, []string{"at most 65536 bytes"}},
	} {
		h, _ := handler(&fakeBackend{})
		w := serve(h, simulateRequest(test.query, test.body))
		for _, want := range test.want {
			if w.Code != test.status || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%.50s: %d, %s, want %s", test.body, w.Code, w.Body, want)
			}
		}
	}
	h, _ := handler(&fakeBackend{})
	if w := serve(h, httptest.NewRequest(http.MethodGet, "/api/v1/simulate", nil)); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d, %v", w.Code, w.Header())
	}
	form := simulateRequest("", "service=svc")
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if w := serve(h, form); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("form: %d", w.Code)
	}
}

func TestSimulateIsARead(t *testing.T) {
	h, _ := handler(&fakeBackend{token: "secret", protect: true})
	r := simulateRequest("", `{"service":"svc"}`)
	if w := serve(h, r); w.Code != http.StatusUnauthorized {
		t.Errorf("without the token: %d", w.Code)
	}
	r = simulateRequest("", `{"service":"svc"}`)
	r.Header.Set("Authorization", "Bearer secret")
	if w := serve(h, r); w.Code != http.StatusOK {
		t.Errorf("with the token: %d, %s", w.Code, w.Body)
	}
}

func TestSimulateLimitsCallsAndTransitions(t *testing.T) {
	const limit = 1 << 20
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		calls  int
		result events.Result
		want   string
	}{
		{limit + 1000, events.ResultSuccess, fmt.Sprintf("the record has %d calls in this time, and at most %d can be simulated: since 2026-01-01T02:56:26Z fits; the command cbproxy simulate has no limit", limit+1000, limit)},
		// Open for 5 s after each of them.
		{60_000, events.ResultFailure, "the state would change more than 100000 times, try a later since; the command cbproxy simulate has no limit"},
	} {
		step := 100 * time.Millisecond
		if test.result == events.ResultFailure {
			step = 6 * time.Second
		}
		f := &fakeBackend{readCalls: func(_ context.Context, yield func(string, events.Call) error) error {
			for i := range test.calls {
				if err := yield("svc", events.Call{Time: begin.Add(time.Duration(i) * step), Result: test.result}); err != nil {
					return err
				}
			}
			return nil
		}}
		h, _ := handler(f)
		w := serve(h, simulateRequest("", `{"service":"svc","breaker":{"fail_max":1}}`))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%d, %.500s, want %s", w.Code, w.Body, test.want)
		}
	}
}

func TestSimulateLimitsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := handler(&fakeBackend{readCalls: func(ctx context.Context, _ func(string, events.Call) error) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		start := time.Now()
		w := serve(h, simulateRequest("", `{"service":"svc"}`))
		if took := time.Since(start); w.Code != http.StatusServiceUnavailable || took != 15*time.Second || !strings.Contains(w.Body.String(), "longer than 15s, try a later since; the command cbproxy simulate") {
			t.Errorf("%d after %v, %s", w.Code, took, w.Body)
		}
	})
}

func TestFailedReadOfSimulate(t *testing.T) {
	h, _ := handler(&fakeBackend{callsErr: errors.New("disk error")})
	if w := serve(h, simulateRequest("", `{"service":"svc"}`)); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "disk error") {
		t.Errorf("%d, %s", w.Code, w.Body)
	}
}

// Another request waits, and is refused after a few seconds. A client that leaves ends its simulation.
func TestOneSimulationAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := 0
		h, _ := handler(&fakeBackend{readCalls: func(_ context.Context, yield func(string, events.Call) error) error {
			if running++; running > 1 {
				t.Errorf("%d simulations at a time", running)
			}
			defer func() { running-- }()
			for i := 0; ; i++ { // until yield returns the error of the client's context
				if err := yield("svc", events.Call{Time: time.Unix(int64(i), 0), Result: events.ResultSuccess}); err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
			}
		}})
		ctx, leave := context.WithCancel(t.Context())
		first := make(chan struct{})
		go func() {
			defer close(first)
			serve(h, simulateRequest("", `{"service":"svc"}`).WithContext(ctx))
		}()
		synctest.Wait()
		start := time.Now()
		w := serve(h, simulateRequest("", `{"service":"svc"}`))
		if took := time.Since(start); w.Code != http.StatusTooManyRequests || took != 4*time.Second || w.Header().Get("Retry-After") != "2" {
			t.Errorf("%d after %v, %v", w.Code, took, w.Header())
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		serve(h, simulateRequest("", `{"service":"svc"}`).WithContext(impatient))
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("a request whose client left waited until %v", took)
		}
		leave()
		<-first
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("the simulation ended after %v", took)
		}
		again, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if w := serve(h, simulateRequest("", `{"service":"svc"}`).WithContext(again)); strings.Contains(w.Body.String(), "another simulation") || running > 0 {
			t.Errorf("%s, %d running", w.Body, running)
		}
	})
}
