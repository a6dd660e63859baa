package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// tenants is a client of a proxy whose upstream fails for tenants that begin with "bad".
type tenants struct {
	t        *testing.T
	address  string
	recorded *recorder
	received atomic.Int32 // requests that the upstream has received
}

func newTenants(t *testing.T) (c *tenants, upstream string) {
	c = &tenants{t: t}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.received.Add(1)
		if strings.HasPrefix(r.Header.Get("X-Tenant"), "bad") || r.Header.Get("X-Fail") != "" {
			w.WriteHeader(500)
		}
	}))
	t.Cleanup(s.Close)
	return c, s.URL
}

// send sends a request with values of X-Tenant, and returns the status and the state of the response.
func (c *tenants) send(values ...string) (status int, state string) {
	c.t.Helper()
	status, h := c.request(http.Header{"X-Tenant": values})
	return status, h.Get("X-Circuit-Breaker-State")
}

func (c *tenants) request(h http.Header) (status int, header http.Header) {
	c.t.Helper()
	r, _ := http.NewRequestWithContext(c.t.Context(), "GET", "http://"+c.address+"/svc", nil)
	r.Header = h
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = res.Body.Close()
	c.recorded.next(c.t)
	return res.StatusCode, res.Header
}

func (c *tenants) want(status int, state string, values ...string) {
	c.t.Helper()
	if gotStatus, gotState := c.send(values...); gotStatus != status || gotState != state {
		c.t.Errorf("tenant %q: status %d, state %s; want %d, %s", values, gotStatus, gotState, status, state)
	}
}

func TestABadTenantIsRejectedAlone(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	server, address, recorded := start(t, routeConfig(upstream, "breaker: {fail_max: 3, by: {header: x-tenant, max: 10}}"))
	c.address, c.recorded = address, recorded
	for range 3 {
		c.want(500, "closed", "bad")
	}
	status, h := c.request(http.Header{"X-Tenant": {"bad"}})
	if status != 503 || h.Get("X-Circuit-Breaker-State") != "open" || h.Get("Retry-After") != "60" || h.Get("X-Circuit-Breaker-Service") != "svc" {
		t.Errorf("status %d, %v", status, h)
	}
	c.want(200, "closed", "good")
	c.want(200, "closed")
	if n := c.received.Load(); n != 5 {
		t.Errorf("the upstream has received %d requests, want 5", n)
	}
	if s := server.Breaker("svc").Status(); s.State != events.Closed {
		t.Errorf("the service's breaker is %v", s.State)
	}
}

func TestADeadUpstreamOpensTheServiceForAllTenants(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	_, c.address, c.recorded = start(t, routeConfig(upstream, "breaker: {fail_max: 4, by: {header: X-Tenant, max: 10}}"))
	for _, tenant := range []string{"bad1", "bad2", "bad1", "bad2"} {
		c.want(500, "closed", tenant)
	}
	for _, tenant := range []string{"bad1", "bad2", "good", ""} {
		c.want(503, "open", tenant)
	}
}

func TestWhichRequestsHaveAKey(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	server, address, recorded := start(t, routeConfig(upstream, "breaker: {fail_max: 2, by: {header: X-Tenant, max: 10}}"))
	c.address, c.recorded = address, recorded
	for _, values := range [][]string{{"a"}, {"a", "b"}, {""}, {}, {strings.Repeat("x", 256)}, {strings.Repeat("x", 257)}, {`"quoted" <b>`}, {"ünïcode"}, {"\xff"}, {"a,b"}} {
		c.want(200, "closed", values...)
	}
	keys, header := server.Keys("svc")
	var listed []string
	for _, s := range keys.List() {
		listed = append(listed, s.Key)
	}
	want := []string{"a", "a, b", strings.Repeat("x", 256), `"quoted" <b>`, "ünïcode", "a,b"}
	for _, key := range want {
		if !strings.Contains(strings.Join(listed, "\n")+"\n", key+"\n") {
			t.Errorf("key %q is not listed", key)
		}
	}
	if len(listed) != len(want) || header != "X-Tenant" {
		t.Errorf("%d keys of %s: %q", len(listed), header, listed)
	}
}

func TestReloadOfBreakerBy(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	config := func(breaker string) string { return routeConfig(upstream, "breaker: {fail_max: 2, "+breaker+"}") }
	server, address, recorded := start(t, config("by: {header: X-Tenant, max: 10}"))
	c.address, c.recorded = address, recorded
	apply := func(breaker string) {
		t.Helper()
		if err := server.Apply(parse(t, config(breaker))); err != nil {
			t.Fatal(err)
		}
	}
	c.send("bad")
	c.send("bad")
	c.want(503, "open", "bad")
	apply("recovery_timeout: 90s, by: {header: x-tenant, max: 5}") // the same field
	c.want(503, "open", "bad")
	keys, _ := server.Keys("svc")
	if s := keys.Status("bad"); s.RetryAt.Sub(s.Since) != 90*time.Second {
		t.Errorf("the new recovery_timeout is not in force: %+v", s)
	}
	c.want(200, "closed", "good") // ends the row of the service's breaker
	apply("by: {header: X-Other, max: 5}")
	c.want(500, "closed", "bad")
	c.want(200, "closed", "good")
	apply("by: {header: X-Tenant, max: 5}")
	c.want(500, "closed", "bad") // anew
	apply("")
	c.want(500, "closed", "bad")
	if keys, _ := server.Keys("svc"); keys != nil {
		t.Error("there are keys without breaker.by")
	}
	c.want(503, "open", "good")
}

func TestRetriesAskTheBreakerOfTheKey(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	_, c.address, c.recorded = start(t, routeConfig(upstream,
		"retry: {attempts: 9, backoff: 1ms, budget: 1, statuses: [500]}", "breaker: {fail_max: 3, by: {header: X-Tenant, max: 10}}"))
	c.want(500, "closed", "bad")
	if n := c.received.Load(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
	c.want(503, "open", "bad")
	c.want(200, "closed", "good")
}

func TestShadowModeAppliesToKeys(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	server, address, recorded := start(t, routeConfig(upstream, "breaker: {mode: shadow, fail_max: 2, by: {header: X-Tenant, max: 10}}"))
	c.address, c.recorded = address, recorded
	c.want(500, "closed", "bad")
	c.want(500, "closed", "bad")
	c.want(500, "open", "bad")
	c.want(200, "closed", "good")
	if n := server.Breaker("svc").Status().ShadowRejections.Open; n != 1 {
		t.Errorf("%d shadow rejections", n)
	}
}

func TestAForcedServiceHoldsForKeys(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	server, address, recorded := start(t, routeConfig(upstream, "breaker: {fail_max: 2, by: {header: X-Tenant, max: 10}}"))
	c.address, c.recorded = address, recorded
	server.Breaker("svc").Force(events.Open, 0, "")
	c.want(503, "open", "good")
	server.Breaker("svc").Force(events.Closed, 0, "")
	keys, _ := server.Keys("svc")
	if err := keys.Force("good", events.Open, 0, "abuse"); err != nil {
		t.Fatal(err)
	}
	c.want(503, "open", "good")
	keys.Release("good", "")
	c.want(200, "half-open", "good")
	c.want(200, "closed", "good")
}

func TestRejectionsOfAKeyAreRecordedOnce(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	_, c.address, c.recorded = start(t, routeConfig(upstream, "breaker: {fail_max: 1, by: {header: X-Tenant, max: 10}}"))
	c.send("bad")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+c.address+"/svc", nil)
	r.Header.Set("X-Tenant", "bad")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if o := c.recorded.next(t); o.Result != events.ResultRejected || o.Reason != events.ReasonOpen || o.Attempts != 0 {
		t.Errorf("%+v", o)
	}
}

// Values that a client makes up occupy at most max breakers, and do not end the open period of another key.
func TestMadeUpKeysAreBounded(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	server, address, recorded := start(t, routeConfig(upstream, "breaker: {fail_max: 2, by: {header: X-Tenant, max: 10}}"))
	c.address, c.recorded = address, recorded
	c.send("bad")
	c.send("bad")
	for i := range 300 {
		c.want(200, "closed", fmt.Sprint("made-up-", i))
	}
	c.want(503, "open", "bad")
	keys, _ := server.Keys("svc")
	if n := len(keys.List()); n != 10 {
		t.Errorf("%d keys", n)
	}
	if n := keys.Counts().Evictions; n != 291 {
		t.Errorf("%d evictions", n)
	}
}
