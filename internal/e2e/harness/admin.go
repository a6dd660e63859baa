package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// AdminToken is the admin API token of every proxy that StartProxy starts.
const AdminToken = "e2e-secret"

// Health holds the fields of the health response that the tests use.
type Health struct {
	Status   string
	Total    int `json:"total_services"`
	Instance string
	Config   struct {
		LastError       *string  `json:"last_error"`
		RestartRequired []string `json:"restart_required"`
		Hash            string
	}
	Redis struct {
		Configured, Up bool
		LastError      string `json:"last_error"`
	}
	Services map[string]ServiceHealth
}

// ServiceHealth holds the fields of a service in the health response that the tests use.
type ServiceHealth struct {
	State       string `json:"circuit_breaker_state"`
	FailCounter int    `json:"fail_counter"`
	Since       time.Time
	RetryAt     *time.Time `json:"retry_at"`
	Forced      *struct {
		State, Reason, Scope string
		Until                *time.Time
	}
	Openings       int
	Cause          string
	Algorithm      string
	RejectionRatio float64 `json:"rejection_ratio"`
	AdmittedRatio  float64 `json:"admitted_ratio"`
	Probing        bool
	Epoch          uint64
	Window         *struct{ Requests uint32 }
	Configuration  struct {
		FailMax int `json:"fail_max"`
		Timeout float64
	}
}

// Health gets the health response of the admin API.
func (p *Proxy) Health() (h Health) {
	p.T.Helper()
	res, err := http.Get(p.AdminURL + "/api/v1/circuit-breakers/health")
	if err := json.Unmarshal([]byte(ReadResponse(p.T, res, err).Body), &h); err != nil {
		p.T.Fatal(err)
	}
	return h
}

// StateChange holds the fields of a state change that the tests use. The history and the event stream have the same
// fields.
type StateChange struct {
	Time                      time.Time
	From, To, Cause, Instance string
}

// History gets the state changes of a service, latest first.
func (p *Proxy) History(service string) (changes []StateChange) {
	p.T.Helper()
	res, err := http.Get(p.AdminURL + "/api/v1/circuit-breakers/" + service + "/history")
	if err := json.Unmarshal([]byte(ReadResponse(p.T, res, err).Body), &changes); err != nil {
		p.T.Fatal(err)
	}
	return changes
}

// Baseline holds the fields of what a breaker has learnt that the tests use. Its pointers are nil if nothing was learnt.
type Baseline struct {
	FailureRatio *float64 `json:"failure_ratio"`
	Calls        int
	Latency      map[string]*float64
	Warm         bool
	Evidence     float64
	Mode         string
	Demoted      bool
	Openings     map[string]int
	Explanation  string
	SlowFrom     float64 `json:"slow_call_duration"`
}

// Baseline gets what the breaker of service svc has learnt. It fails the test if no failure ratio is known.
func (p *Proxy) Baseline() Baseline {
	p.T.Helper()
	b := p.BaselineOfDurations()
	if b.FailureRatio == nil {
		p.T.Fatalf("no failure ratio: %+v", b)
	}
	return b
}

// BaselineOfDurations gets what the breaker of service svc has learnt, which may have no failure ratio.
func (p *Proxy) BaselineOfDurations() (b Baseline) {
	p.T.Helper()
	r := p.AdminRequest(http.MethodGet, "/api/v1/circuit-breakers/svc/baseline", AdminToken)
	if err := json.Unmarshal([]byte(r.Body), &b); err != nil || r.Status != http.StatusOK {
		p.T.Fatalf("%v, %+v", err, r)
	}
	return b
}

// Force sends a force-state request with the given JSON body and returns the response.
func (p *Proxy) Force(service, body string) Response {
	p.T.Helper()
	return p.AdminSend(http.MethodPost, "/api/v1/circuit-breakers/"+service+"/force-state", body)
}

// AdminSend sends a request with a JSON body and the token to the admin API.
func (p *Proxy) AdminSend(method, path, body string) Response {
	p.T.Helper()
	r, err := http.NewRequest(method, p.AdminURL+path, strings.NewReader(body))
	if err != nil {
		p.T.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+AdminToken)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	return ReadResponse(p.T, res, err)
}

// ForceState forces the breaker of service svc into a state. It fails the test unless the proxy responds with 200.
func ForceState(t testing.TB, p *Proxy, state string) {
	t.Helper()
	if r := p.Force("svc", `{"state":"`+state+`"}`); r.Status != http.StatusOK {
		t.Fatalf("force %s: %+v", state, r)
	}
}

// AdminRequest sends a request without a body to the admin API. It sends no Authorization field if token is empty.
func (p *Proxy) AdminRequest(method, path, token string) Response {
	p.T.Helper()
	r, err := http.NewRequest(method, p.AdminURL+path, nil)
	if err != nil {
		p.T.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	return ReadResponse(p.T, res, err)
}

// AddAdminKeys adds keys, in YAML flow syntax, to the admin section of ConfigHead. The caller must write the file.
func (p *Proxy) AddAdminKeys(keys string) {
	before, after, _ := strings.Cut(p.ConfigHead, "admin: {")
	p.ConfigHead = before + "admin: {" + keys + ", " + after
}

// BreakerState returns the breaker state of service svc in the health response.
func (p *Proxy) BreakerState() string {
	p.T.Helper()
	return p.Health().Services["svc"].State
}

// AwaitRedis waits until the health response reports that Redis is up, or down, and checks the metric.
func (p *Proxy) AwaitRedis(up bool) {
	p.T.Helper()
	Eventually(p.T, fmt.Sprintf("health reports redis.up %v", up), func() bool { return p.Health().Redis.Up == up })
	want := 0.0
	if up {
		want = 1
	}
	if got := p.Metric("cbproxy_redis_up"); got != want {
		p.T.Errorf("cbproxy_redis_up is %v, health reports %v", got, up)
	}
}

// OpenBreaker opens the breaker of service svc by failed requests. It waits for the history entry, which is stored after
// the state, so that a kill afterwards loses neither.
func (p *Proxy) OpenBreaker() ServiceHealth {
	p.T.Helper()
	before := len(p.History("svc"))
	Eventually(p.T, "the breaker is open", func() bool { return p.Get("/svc").BreakerState() == "open" })
	Eventually(p.T, "the change is in the history", func() bool { return len(p.History("svc")) > before })
	return p.Health().Services["svc"]
}
