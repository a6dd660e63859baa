package suites

import (
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

const (
	h2specTimeout  = 2 * time.Second // h2spec's default: a server that sends nothing for this time fails
	h2specRetries  = 3               // repetitions of a case that fails only on the proxy
	h2specParallel = 8               // concurrent cases; most failing cases only wait
)

// h2specCase is a case of h2spec.
type h2specCase struct {
	id, title string
	run       func(*config.Config, *spec.Conn) error
}

// h2specCases returns all cases for servers, including the strict ones.
func h2specCases() (cases []h2specCase) {
	groups := []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()}
	for len(groups) > 0 {
		g := groups[0]
		groups = append(groups[1:], g.Groups...)
		for i, c := range slices.Concat(g.Tests, g.StrictTests) {
			cases = append(cases, h2specCase{fmt.Sprintf("%s/%d", g.ID(), i+1), g.Title() + ": " + c.Desc, c.Run})
		}
	}
	return cases
}

// h2specResult is the result of all cases on one server.
type h2specResult struct {
	passed, skipped int
	failed          map[string]error // by the case's ID
}

// add counts the result of a case.
func (r *h2specResult) add(id string, err error) {
	switch err {
	case nil:
		r.passed++
	case spec.ErrSkipped:
		r.skipped++
	default:
		r.failed[id] = err
	}
}

// String lists the numbers of cases by result, and the failed cases.
func (r *h2specResult) String() string {
	return fmt.Sprintf("%d passed, %d skipped, %d failed %v", r.passed, r.skipped, len(r.failed), slices.Sorted(maps.Keys(r.failed)))
}

// runOn runs a case on a new connection. If h2spec panics, because a connection ended early, that counts as a failure.
func (c h2specCase) runOn(server *config.Config) (err error) {
	conn, err := spec.Dial(server)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("h2spec panicked: %v", p)
		}
	}()
	return c.run(server, conn)
}

// runH2spec runs all cases on a server.
func runH2spec(cases []h2specCase, server *config.Config) *h2specResult {
	result := &h2specResult{failed: map[string]error{}}
	var mu sync.Mutex // guards result
	var running sync.WaitGroup
	slots := make(chan struct{}, h2specParallel)
	for _, c := range cases {
		slots <- struct{}{}
		running.Go(func() {
			err := c.runOn(server)
			mu.Lock()
			result.add(c.id, err)
			mu.Unlock()
			<-slots
		})
	}
	running.Wait()
	return result
}

// h2specConfig returns the default configuration of h2spec's command.
func h2specConfig(t *testing.T, address string) *config.Config {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return &config.Config{Host: host, Port: n, Path: "/", Timeout: h2specTimeout, MaxHeaderLen: 4000, Strict: true}
}

// The proxy fails no case of h2spec that net/http's server passes, and none of h2spec's requests counts as a failure of
// the upstream.
func TestHTTP2ConformsLikeNetHTTP(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server reports errors in the body
		fmt.Fprint(w, "hello")
	})
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = bothProtocols()
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // h2spec causes many log lines
	server.Start()
	defer server.Close()
	p := startProxy(t, "routes: {svc: {prefix: /, upstream: '"+server.URL+"'}}\n")

	cases := h2specCases()
	direct := runH2spec(cases, h2specConfig(t, server.Listener.Addr().String()))
	if direct.passed < 100 {
		t.Fatalf("results of h2spec's %d cases on net/http: %s", len(cases), direct)
	}
	target := h2specConfig(t, p.data)
	proxied := runH2spec(cases, target)
	for _, c := range cases {
		if proxied.failed[c.id] == nil || direct.failed[c.id] != nil {
			continue
		}
		err := proxied.failed[c.id]
		for n := 0; n < h2specRetries && err != nil; n++ {
			if err = c.runOn(target); err == nil {
				t.Logf("%s is flaky: %v", c.id, proxied.failed[c.id])
				delete(proxied.failed, c.id)
				proxied.passed++
			}
		}
		if err != nil {
			t.Errorf("%s (%s) fails on the proxy only: %v", c.id, c.title, err)
		}
	}
	if proxied.skipped > direct.skipped {
		t.Errorf("%d cases are skipped on the proxy, %d on net/http", proxied.skipped, direct.skipped)
	}
	t.Logf("net/http: %s", direct)
	t.Logf("cbproxy:  %s", proxied)

	m := p.settled()
	if m.state() != closed || len(m.failures()) > 0 || m.requests()["success"] == 0 {
		t.Errorf("the breaker's state is %v, failures: %v, requests: %v", m.state(), m.failures(), m.requests())
	}
}
