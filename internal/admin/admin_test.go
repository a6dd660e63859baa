package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/trends"
)

// fakeBackend is an admin.Backend with one service, svc, whose breaker is open.
type fakeBackend struct {
	token    string
	tokenErr error
	protect  bool
	notReady error
	mu       sync.Mutex // guards commands while requests are concurrent
	commands []string   // the calls of Force and Release
	forceErr error      // the result of Force and Release
	faults   []events.Fault
	faultErr error // the result of InjectFault and EndFault
	// overridesErr is the result of SetOverrides and EndOverrides, invalidSet that of CheckOverrides.
	overridesErr error
	invalidSet   []string
	baseline     events.Baseline
	forecast     events.Forecast
	resetErr     error
	history      []events.HistoryEntry
	queues       admin.Queues
	hosts        []string
	calls        []events.Call
	callsErr     error
	// readCalls, if not nil, is Outcomes.
	readCalls func(ctx context.Context, yield func(string, events.Call) error) error
	keyErr    error // the result of ForceKey and ReleaseKey
}

func (f *fakeBackend) Health() admin.Health {
	h := admin.Health{Services: map[string]admin.Service{"svc": {ServiceName: "svc", State: events.Open, Configuration: admin.Configuration{Priority: 2, RecoveryTimeout: admin.Seconds(1500 * time.Millisecond)}}}}
	h.Summarize()
	return h
}

func (f *fakeBackend) Service(name string) (admin.Service, bool) {
	return admin.Service{ServiceName: name}, name == "svc"
}

func (f *fakeBackend) Force(_ context.Context, service string, fleet bool, state events.State, d time.Duration, reason string) error {
	return f.record(fleet, fmt.Sprint(service, " ", state, " ", d, " ", reason))
}

func (f *fakeBackend) Release(_ context.Context, service string, fleet bool, reason string) error {
	return f.record(fleet, fmt.Sprint(service, " auto ", reason))
}

func (f *fakeBackend) record(fleet bool, command string) error {
	if fleet {
		command = "fleet: " + command
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = append(f.commands, command)
	return f.forceErr
}

func (f *fakeBackend) Keys(service string) (admin.KeyList, bool) {
	list := admin.KeyList{Service: service, Header: "X-Tenant", Max: 100, Keys: []admin.Key{}}
	list.Keys = append(list.Keys, admin.NewKey(events.KeyStatus{Key: "<b>", BreakerStatus: events.BreakerStatus{State: events.Open}}))
	return list, service == "svc"
}

func (f *fakeBackend) ForceKey(service, key string, state events.State, d time.Duration, reason string) (events.KeyStatus, error) {
	_ = f.record(false, fmt.Sprint(service, " ", key, " ", state, " ", d, " ", reason))
	return events.KeyStatus{Key: key, BreakerStatus: events.BreakerStatus{State: state, Forced: &events.ForcedState{State: state}}}, f.keyErr
}

func (f *fakeBackend) ReleaseKey(service, key, reason string) (events.KeyStatus, error) {
	_ = f.record(false, fmt.Sprint(service, " ", key, " auto ", reason))
	return events.KeyStatus{Key: key}, f.keyErr
}

func (f *fakeBackend) Faults(string) []events.Fault { return f.faults }

func (f *fakeBackend) InjectFault(service string, wanted events.Fault) (events.Fault, error) {
	f.commands = append(f.commands, fmt.Sprintf("%s %+v", service, wanted))
	wanted.ID = "f1"
	return wanted, f.faultErr
}

func (f *fakeBackend) EndFault(service, id, reason string) (events.Fault, error) {
	f.commands = append(f.commands, strings.Join([]string{service, id, reason}, " "))
	return events.Fault{ID: id, Kind: events.FaultReset}, f.faultErr
}

// fakeOverrides are what every method returns.
var fakeOverrides = admin.Overrides{
	Set: map[string]json.RawMessage{"timeout": []byte(`"5s"`)}, Keys: []admin.OverriddenKey{{Key: "timeout", FileValue: []byte(`"30s"`), Value: []byte(`"5s"`)}},
	Changes: []admin.ConfigChange{{Key: "routes.svc.timeout", Change: "30s -> 5s", Effect: "It is shorter."}},
}

func (f *fakeBackend) Overrides(service string) (admin.Overrides, bool) {
	return fakeOverrides, service == "svc"
}

func (f *fakeBackend) CheckOverrides(string, json.RawMessage) error {
	if f.invalidSet != nil {
		return &admin.InvalidKeysError{Faults: f.invalidSet}
	}
	return nil
}

func (f *fakeBackend) SetOverrides(service string, set json.RawMessage, d time.Duration, reason string) (admin.Overrides, error) {
	f.commands = append(f.commands, fmt.Sprintf("%s %s %v %s", service, set, d, reason))
	return fakeOverrides, f.overridesErr
}

func (f *fakeBackend) EndOverrides(service, reason string) (admin.Overrides, error) {
	f.commands = append(f.commands, service+" off "+reason)
	return fakeOverrides, f.overridesErr
}

func (f *fakeBackend) Baseline(service string) (events.Baseline, bool) {
	return f.baseline, service == "svc"
}

func (f *fakeBackend) Forecast(service string) (events.Forecast, bool) {
	return f.forecast, service == "svc"
}

func (f *fakeBackend) ResetBaseline(string) error {
	f.baseline = events.Baseline{Mode: "enforce"}
	return f.resetErr
}

func (f *fakeBackend) History(context.Context, string) ([]events.HistoryEntry, error) {
	return f.history, nil
}

func (f *fakeBackend) Outcomes(ctx context.Context, _ string, _, _ time.Time, yield func(string, events.Call) error) error {
	if f.readCalls != nil {
		return f.readCalls(ctx, yield)
	}
	for _, c := range f.calls {
		if err := yield("svc", c); err != nil {
			return err
		}
	}
	return f.callsErr
}

// Policies accepts the key fail_max. The one in force is 5.
func (f *fakeBackend) Policies(service string, keys []byte) (changed, active breaker.Policy, err error) {
	if service != "svc" {
		return changed, active, admin.ErrUnknownService
	}
	var values struct {
		FailMax *int `json:"fail_max"`
	}
	d := json.NewDecoder(bytes.NewReader(keys))
	if d.DisallowUnknownFields(); d.Decode(&values) != nil {
		return changed, active, &admin.InvalidKeysError{Faults: []string{"breaker.x: unknown key", "breaker.y: unknown key"}}
	}
	active = breaker.Policy{FailMax: 5, RecoveryTimeout: 5 * time.Second, HalfOpenRequests: 1}
	if changed = active; values.FailMax != nil {
		changed.FailMax = *values.FailMax
	}
	return changed, active, nil
}

func (f *fakeBackend) Queues() admin.Queues { return f.queues }

func (f *fakeBackend) Ready() error                     { return f.notReady }
func (f *fakeBackend) EffectiveConfig() ([]byte, error) { return []byte(`{"listen":"x"}`), nil }
func (f *fakeBackend) Reload() error                    { return errors.New("a.yaml:1:1: x: y") }
func (f *fakeBackend) ProtectReads() bool               { return f.protect }
func (f *fakeBackend) Token() (string, error)           { return f.token, f.tokenErr }
func (f *fakeBackend) Hosts() []string {
	if f.hosts == nil {
		return []string{"example.com"} // the host of httptest's requests
	}
	return f.hosts
}

func handler(f *fakeBackend) (http.Handler, *events.Bus) {
	bus := new(events.Bus)
	return admin.New(admin.Config{
		Backend: f, Bus: bus, Trends: trends.New(nil, nil),
		Metrics: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler),
	}), bus
}

const force = "/api/v1/circuit-breakers/svc/force-state"

func post(body string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, force, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer secret")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestForceStateCallsProxy(t *testing.T) {
	for body, want := range map[string]string{
		`{"state":"open"}`: "svc open 0s ",
		`{"state":"open","duration":"10m","reason":"why"}`:     "svc open 10m0s why",
		`{"state":"closed","duration":1.5,"scope":"instance"}`: "svc closed 1.5s ",
		`{"state":"half-open"}`:                                "svc half-open 0s ",
		`{"state":"auto","reason":"done"}`:                     "svc auto done",
		`{"state":"open","scope":"fleet"}`:                     "fleet: svc open 0s ",
		`{"state":"auto","scope":"fleet","reason":"done"}`:     "fleet: svc auto done",
	} {
		f := &fakeBackend{token: "secret"}
		h, _ := handler(f)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, post(body))
		if w.Code != 200 || len(f.commands) != 1 || f.commands[0] != want {
			t.Errorf("%s: status %d, commands %q, want %q", body, w.Code, f.commands, want)
		}
	}
}

func TestForceStateNotPersistedResponds202(t *testing.T) {
	f := &fakeBackend{token: "secret", forceErr: &admin.NotPersistedError{Err: errors.New("no space left")}}
	h, bus := handler(f)
	sub := bus.Subscribe(10)
	defer sub.Close()
	for _, body := range []string{`{"state":"open"}`, `{"state":"auto"}`, `{"state":"closed","scope":"fleet"}`} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, post(body))
		var s admin.Service
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != http.StatusAccepted || s.ServiceName != "svc" || !strings.Contains(s.NotPersisted, "no space left") {
			t.Errorf("%s: status %d, %s, %v", body, w.Code, w.Body, err)
		}
		if e, _, err := sub.Next(t.Context()); err != nil || e.(events.AdminAction).Error != "" {
			t.Errorf("%s: event %+v, error %v", body, e, err)
		}
	}
}

func TestForceStateRejectsInvalidRequests(t *testing.T) {
	put := post(`{"state":"open"}`)
	put.Method = http.MethodPut
	unknown := post(`{"state":"open"}`)
	unknown.URL.Path = "/api/v1/circuit-breakers/other/force-state"
	for name, c := range map[string]struct {
		r      *http.Request
		status int
		text   string
	}{
		"no token":        {post(`{"state":"open"}`, "Authorization", ""), 401, "Authorization"},
		"wrong token":     {post(`{"state":"open"}`, "Authorization", "Bearer secre"), 401, ""},
		"basic":           {post(`{"state":"open"}`, "Authorization", "Basic secret"), 401, ""},
		"method":          {put, 405, "POST"},
		"unknown service": {unknown, 404, "other"},
		"form":            {post(`state=open`, "Content-Type", "application/x-www-form-urlencoded"), 415, "application/json"},
		"large":           {post(`{"reason":"` + strings.Repeat("x", 70<<10) + `"}`), 413, ""},
		"other origin":    {post(`{"state":"open"}`, "Sec-Fetch-Site", "cross-site"), 403, "origin"},
		"not an object":   {post(`[]`), 400, "JSON object"},
		"null":            {post(`null`), 400, "JSON object"},
		"two objects":     {post(`{"state":"open"}{}`), 400, "single JSON object"},
		"no state":        {post(`{}`), 400, "state: must be"},
		"bad state":       {post(`{"state":"OPEN"}`), 400, `got \"OPEN\"`},
		"bad duration":    {post(`{"state":"open","duration":"-1s"}`), 400, "duration: must be a positive"},
		"zero duration":   {post(`{"state":"open","duration":0}`), 400, "duration: must be a positive"},
		"null duration":   {post(`{"state":"open","duration":null}`), 400, "duration: must be a positive"},
		"huge duration":   {post(`{"state":"open","duration":1e300}`), 400, "duration: must be a positive"},
		"half-open for":   {post(`{"state":"half-open","duration":"1s"}`), 400, "duration: is allowed only"},
		"other scope":     {post(`{"state":"open","scope":"world"}`), 400, "scope: must be"},
		"unknown key":     {post(`{"state":"open","for":"1s"}`), 400, "for: unknown key"},
		"fleet and key":   {post(`{"state":"open","key":"a","scope":"fleet"}`), 400, "scope: must be"},
		"empty key":       {post(`{"state":"open","key":""}`), 400, "key: must be"},
		"number as key":   {post(`{"state":"open","key":1}`), 400, "key: must be"},
		"null key":        {post(`{"state":"open","key":null}`), 400, "key: must be"},
		"line break":      {post(`{"state":"open","key":"a\nb"}`), 400, "key: must be"},
		"long key":        {post(`{"state":"open","key":"` + strings.Repeat("x", 257) + `"}`), 400, "key: must be"},
		"long reason":     {post(`{"state":"open","reason":"` + strings.Repeat("é", 1001) + `"}`), 400, "reason: must be"},
	} {
		f := &fakeBackend{token: "secret"}
		h, _ := handler(f)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, c.r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d, want %d with %q: %s", name, w.Code, c.status, c.text, w.Body)
		}
		if len(f.commands) > 0 {
			t.Errorf("%s: executed as %q", name, f.commands)
		}
	}
}

func TestWritesNeedConfiguredToken(t *testing.T) {
	for _, f := range []*fakeBackend{{}, {tokenErr: errors.New("no such file")}} {
		h, _ := handler(f)
		for _, path := range []string{force, "/api/v1/config/reload"} {
			w := httptest.NewRecorder()
			r := post(`{"state":"open"}`, "Authorization", "Bearer ")
			r.URL.Path = path
			h.ServeHTTP(w, r)
			if w.Code != 403 {
				t.Errorf("%s: status %d, want 403", path, w.Code)
			}
		}
	}
}

func TestReadsNeedTokenOnlyIfProtected(t *testing.T) {
	paths := map[string]bool{ // whether protect_reads applies
		"/healthz": false, "/readyz": false, "/api/v1/circuit-breakers/health": true, "/api/v1/circuit-breakers/svc": true,
		"/api/v1/circuit-breakers/svc/history": true, "/api/v1/config": true,
	}
	for path, protected := range paths {
		for _, protect := range []bool{false, true} {
			h, _ := handler(&fakeBackend{token: "secret", protect: protect})
			want := 200
			if protect && protected {
				want = 401
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want {
				t.Errorf("%s, protect_reads %v: status %d, want %d", path, protect, w.Code, want)
			}
		}
	}
}

func TestHealthContainsStatusAndSeconds(t *testing.T) {
	h, _ := handler(&fakeBackend{})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/circuit-breakers/health", nil))
	var health struct {
		Status   string
		Total    int `json:"total_services"`
		Services map[string]struct {
			State         string `json:"circuit_breaker_state"`
			Configuration struct {
				RecoveryTimeout float64 `json:"recovery_timeout"`
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &health); err != nil {
		t.Fatal(err)
	}
	s := health.Services["svc"]
	if health.Status != "degraded" || health.Total != 1 || s.State != "open" || s.Configuration.RecoveryTimeout != 1.5 {
		t.Errorf("health %+v", health)
	}
}

func TestStatusOfReadinessAndUnknownPaths(t *testing.T) {
	h, _ := handler(&fakeBackend{notReady: errors.New("shutting down")})
	for target, want := range map[string]int{"GET /readyz": 503, "GET /healthz": 200, "HEAD /healthz": 200, "GET /": 200, "GET /nothing": 404, "POST /nothing": 404, "POST /": 405, "GET /dashboard/index.html": 404, "GET /dashboard/app.js": 200, "GET /api/v1/circuit-breakers/nope": 404, "POST /healthz": 405} {
		method, path, _ := strings.Cut(target, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", target, w.Code, want)
		}
	}
}

func TestEventStreamStartsWithSnapshot(t *testing.T) {
	h, bus := handler(&fakeBackend{})
	s := httptest.NewServer(h)
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/v1/events", nil)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	expect := func(prefix string) string {
		line, err := lines.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, prefix) {
			t.Fatalf("got %q, %v; want %q", line, err, prefix)
		}
		return line
	}
	expect("event: snapshot")
	expect("data: {")
	expect("\n")
	bus.Publish(events.StateChanged{Service: "svc", To: events.Open, Cause: events.CauseForced})
	bus.Publish(events.Forced{Service: "svc", State: "open"})
	expect("event: state_changed")
	if data := expect("data: {"); !strings.Contains(data, `"to":"open"`) || !strings.Contains(data, `"cause":"forced"`) {
		t.Errorf("data %s", data)
	}
	expect("\n")
	expect("event: forced")
}

func TestEventStreamOutlastsReadTimeout(t *testing.T) {
	h, bus := handler(&fakeBackend{})
	s := httptest.NewUnstartedServer(h)
	s.Config.ReadTimeout = 50 * time.Millisecond
	s.Start()
	defer s.Close()
	res, err := http.Get(s.URL + "/api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for start := time.Now(); time.Since(start) < 5*s.Config.ReadTimeout; {
		for range 3 { // the lines of one event; the first event is the snapshot
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatalf("after %v: %v", time.Since(start), err)
			}
		}
		bus.Publish(events.Forced{Service: "svc"})
	}
}

func TestEmptyHistoryIsEmptyList(t *testing.T) {
	f := &fakeBackend{}
	h, _ := handler(f)
	history := func() string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/circuit-breakers/svc/history", nil))
		return strings.TrimSpace(w.Body.String())
	}
	if got := history(); got != "[]" {
		t.Errorf("empty history: %s", got)
	}
	f.history = []events.HistoryEntry{{
		StateChanged: events.StateChanged{Service: "svc", To: events.Open, Cause: events.CauseFailureRatio}, Instance: "me",
	}}
	if got := history(); !strings.Contains(got, `"to":"open","cause":"failure_ratio"`) || !strings.Contains(got, `"instance":"me"`) {
		t.Errorf("history %s", got)
	}
}

func TestForceStateResponds503IfFleetIsUnreachable(t *testing.T) {
	f := &fakeBackend{token: "secret", forceErr: errors.New("no response in time")}
	h, _ := handler(f)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, post(`{"state":"open","scope":"fleet"}`))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "no response in time") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

func TestHeadOfEventStreamReturnsAtOnce(t *testing.T) {
	h, _ := handler(&fakeBackend{})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/api/v1/events", nil))
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" || w.Body.Len() > 0 {
		t.Errorf("status %d, %v, %d bytes", w.Code, w.Header(), w.Body.Len())
	}
}
