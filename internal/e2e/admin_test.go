package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const adminToken = "e2e-secret"

// health holds the fields of the health response that the tests use.
type health struct {
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
	Services map[string]service
}

type service struct {
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

func (p *proxyProcess) health() (h health) {
	p.t.Helper()
	res, err := http.Get(p.admin + "/api/v1/circuit-breakers/health")
	if err := json.Unmarshal([]byte(read(p.t, res, err).body), &h); err != nil {
		p.t.Fatal(err)
	}
	return h
}

// change holds the fields of a history entry that the tests use.
type change struct {
	Time                      time.Time
	From, To, Cause, Instance string
}

func (p *proxyProcess) history(service string) (changes []change) {
	p.t.Helper()
	res, err := http.Get(p.admin + "/api/v1/circuit-breakers/" + service + "/history")
	if err := json.Unmarshal([]byte(read(p.t, res, err).body), &changes); err != nil {
		p.t.Fatal(err)
	}
	return changes
}

// force posts a force-state body and returns the response.
func (p *proxyProcess) force(service, body string) response {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodPost, p.admin+"/api/v1/circuit-breakers/"+service+"/force-state", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	return read(p.t, res, err)
}

// forceTo forces the breaker of svc.
func forceTo(t testing.TB, p *proxyProcess, state string) {
	t.Helper()
	if r := p.force("svc", `{"state":"`+state+`"}`); r.status != http.StatusOK {
		t.Fatalf("force %s: %+v", state, r)
	}
}

// operate sends a request to the admin API, with a token unless that is empty.
func (p *proxyProcess) operate(method, path, token string) response {
	p.t.Helper()
	r, err := http.NewRequest(method, p.admin+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	return read(p.t, res, err)
}

// adminKeys adds keys to the admin section of the configuration. They take effect when the file is written.
func (p *proxyProcess) adminKeys(keys string) {
	before, after, _ := strings.Cut(p.head, "admin: {")
	p.head = before + "admin: {" + keys + ", " + after
}

func (p *proxyProcess) state() string {
	p.t.Helper()
	return p.health().Services["svc"].State
}

// awaitRedis waits until the proxy says that Redis can be used, or can't.
func (p *proxyProcess) awaitRedis(up bool) {
	p.t.Helper()
	eventually(p.t, fmt.Sprint("Redis is up: ", up), func() bool { return p.health().Redis.Up == up })
	want := 0.0
	if up {
		want = 1
	}
	if got := p.metric("cbproxy_redis_up"); got != want {
		p.t.Errorf("cbproxy_redis_up is %v, health says %v", got, up)
	}
}

// open opens the breaker of svc by failures and waits until the history is on disk, which is written after
// the state.
func (p *proxyProcess) open() service {
	p.t.Helper()
	before := len(p.history("svc"))
	eventually(p.t, "it opens", func() bool { return p.get("/svc").state() == "open" })
	eventually(p.t, "that is kept", func() bool { return len(p.history("svc")) > before })
	return p.health().Services["svc"]
}
