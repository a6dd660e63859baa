package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// AdminToken is the token of the admin API of each proxy that StartProxy starts.
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
	Services map[string]Service
}

// Service holds the fields of a service in the health response that the tests use.
type Service struct {
	State       string `json:"circuit_breaker_state"`
	FailCounter int    `json:"fail_counter"`
	Since       time.Time
	RetryAt     *time.Time `json:"retry_at"`
	Forced      *struct {
		State, Reason, Scope string
		Until                *time.Time
	}
	Openings      int
	Cause         string
	Probing       bool
	Epoch         uint64
	Configuration struct {
		FailMax int `json:"fail_max"`
		Timeout float64
	}
}

// Health returns the health response of the admin API.
func (p *Proxy) Health() (h Health) {
	p.T.Helper()
	res, err := http.Get(p.AdminURL + "/api/v1/circuit-breakers/health")
	if err := json.Unmarshal([]byte(ReadResponse(p.T, res, err).Body), &h); err != nil {
		p.T.Fatal(err)
	}
	return h
}

// Change holds the fields of a history entry that the tests use.
type Change struct {
	Time                      time.Time
	From, To, Cause, Instance string
}

// History returns a service's history, the latest change first.
func (p *Proxy) History(service string) (changes []Change) {
	p.T.Helper()
	res, err := http.Get(p.AdminURL + "/api/v1/circuit-breakers/" + service + "/history")
	if err := json.Unmarshal([]byte(ReadResponse(p.T, res, err).Body), &changes); err != nil {
		p.T.Fatal(err)
	}
	return changes
}

// Force posts a force-state body and returns the response.
func (p *Proxy) Force(service, body string) Response {
	p.T.Helper()
	r, err := http.NewRequest(http.MethodPost, p.AdminURL+"/api/v1/circuit-breakers/"+service+"/force-state", strings.NewReader(body))
	if err != nil {
		p.T.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+AdminToken)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	return ReadResponse(p.T, res, err)
}

// ForceState forces the breaker of svc.
func ForceState(t testing.TB, p *Proxy, state string) {
	t.Helper()
	if r := p.Force("svc", `{"state":"`+state+`"}`); r.Status != http.StatusOK {
		t.Fatalf("force %s: %+v", state, r)
	}
}

// AdminRequest sends a request to the admin API, with a token unless that is empty.
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

// AddAdminKeys adds keys to the admin section of the configuration. They take effect when the file is written.
func (p *Proxy) AddAdminKeys(keys string) {
	before, after, _ := strings.Cut(p.ConfigHead, "admin: {")
	p.ConfigHead = before + "admin: {" + keys + ", " + after
}

// BreakerState returns the state of svc's breaker.
func (p *Proxy) BreakerState() string {
	p.T.Helper()
	return p.Health().Services["svc"].State
}

// AwaitRedis waits until the proxy says that Redis can be used, or can't.
func (p *Proxy) AwaitRedis(up bool) {
	p.T.Helper()
	Eventually(p.T, fmt.Sprint("Redis is up: ", up), func() bool { return p.Health().Redis.Up == up })
	want := 0.0
	if up {
		want = 1
	}
	if got := p.Metric("cbproxy_redis_up"); got != want {
		p.T.Errorf("cbproxy_redis_up is %v, health says %v", got, up)
	}
}

// OpenBreaker opens the breaker of svc by failures and waits until the history is on disk, which is written after
// the state.
func (p *Proxy) OpenBreaker() Service {
	p.T.Helper()
	before := len(p.History("svc"))
	Eventually(p.T, "it opens", func() bool { return p.Get("/svc").BreakerState() == "open" })
	Eventually(p.T, "that is kept", func() bool { return len(p.History("svc")) > before })
	return p.Health().Services["svc"]
}
