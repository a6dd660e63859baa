package endpoints

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// status is what the admin API says of service svc.
type status struct {
	State       string `json:"circuit_breaker_state"`
	FailCounter int    `json:"fail_counter"`
	Endpoints   []struct {
		URL         string
		State       string
		InFlight    int `json:"in_flight"`
		FailCounter int `json:"fail_counter"`
		Ejections   int
	}
}

func statusOf(p *harness.Proxy) (s status) {
	p.T.Helper()
	r := p.AdminRequest("GET", "/api/v1/circuit-breakers/svc", harness.AdminToken)
	if err := json.Unmarshal([]byte(r.Body), &s); err != nil || r.Status != 200 {
		p.T.Fatalf("%v: %+v", err, r)
	}
	return s
}

// states returns the state of each endpoint, in the order of the list.
func (s status) states() string {
	var all []string
	for _, e := range s.Endpoints {
		all = append(all, e.State)
	}
	return strings.Join(all, " ")
}

// urls returns the endpoints' URLs.
func (s status) urls() string {
	var all []string
	for _, e := range s.Endpoints {
		all = append(all, e.URL)
	}
	return strings.Join(all, " ")
}

// ejections returns how often an endpoint has been ejected, in all.
func (s status) ejections() (n int) {
	for _, e := range s.Endpoints {
		n += e.Ejections
	}
	return n
}

// awaitStates waits until the endpoints have the states, and calls between before each look.
func awaitStates(p *harness.Proxy, want string, between func()) {
	p.T.Helper()
	harness.Eventually(p.T, "the endpoints are "+want, func() bool { between(); return statusOf(p).states() == want })
}

// recorded returns how many calls of service svc the record of calls has for each outcome, such as "success 200" or "failure connect".
func recorded(p *harness.Proxy) map[string]int {
	p.T.Helper()
	r := p.AdminRequest("GET", "/api/v1/outcomes?service=svc", "")
	if r.Status != 200 {
		p.T.Fatalf("%+v", r)
	}
	all := map[string]int{}
	for line := range strings.Lines(r.Body) {
		var c struct {
			Outcome   string
			Status    int
			ErrorType string `json:"error_type"`
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			p.T.Fatalf("%s: %v", line, err)
		}
		if c.ErrorType != "" {
			all[c.Outcome+" "+c.ErrorType]++
		} else {
			all[fmt.Sprint(c.Outcome, " ", c.Status)]++
		}
	}
	return all
}

// start starts a proxy with service svc, whose upstream and further keys are given.
func start(t testing.TB, upstream, keys string) *harness.Proxy {
	t.Helper()
	return harness.StartProxy(t, harness.Options{Config: config(upstream, keys)})
}

func config(upstream, keys string) string {
	if keys != "" {
		keys = ", " + keys
	}
	return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s%s}}\n", upstream, keys)
}
