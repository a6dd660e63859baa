package attack

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// oneMistake is a route whose breaker opens at the first failure.
func oneMistake(url, more string) string {
	return "routes: {svc: {prefix: /svc, upstream: '" + url + "', breaker: {fail_max: 1, recovery_timeout: 300}" + more + "}}\n"
}

// unharmed checks that nothing is left of an attack: no request in flight, no mark against
// the upstream, and an answer for those who ask properly.
func checkUnharmed(p *harness.Proxy) {
	p.T.Helper()
	harness.Eventually(p.T, "nothing is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	if got := p.RequestCounts("svc"); got["failure"] != 0 || got["rejected"] != 0 {
		p.T.Errorf("requests %v", got)
	}
	if s := p.Health().Services["svc"]; s.State != "closed" || s.FailCounter != 0 {
		p.T.Errorf("service %+v", s)
	}
	checkServes(p)
}

// serves checks that a normal request is answered promptly.
func checkServes(p *harness.Proxy) {
	p.T.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: harness.EventTimeout / 2}
	res, err := client.Get(p.URL + "/svc/fine")
	if r := harness.ReadResponse(p.T, res, err); r.Status != 200 {
		p.T.Errorf("a normal request: %+v", r)
	}
}

// answers reads all that comes on a connection until its end.
func answers(t testing.TB, r *bufio.Reader) []harness.Response {
	t.Helper()
	var all []harness.Response
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return all
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("after %v the answer breaks off: %v", res.Status, err)
			return all
		}
		all = append(all, harness.Response{Status: res.StatusCode, Header: res.Header, Body: string(body)})
	}
}

func statuses(all []harness.Response) []int {
	got := []int{}
	for _, r := range all {
		got = append(got, r.Status)
	}
	return got
}

// isProblem reports whether a response is one of the proxy's own errors.
func isProblem(r harness.Response) bool {
	return r.Header.Get("Content-Type") == "application/problem+json" && strings.HasPrefix(r.Header.Get("Proxy-Status"), "cbproxy; error=")
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}
