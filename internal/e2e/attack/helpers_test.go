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

// strictBreakerConfig returns a configuration whose only route has a breaker that opens at the first failure. options
// are further keys of the route, each after a comma.
func strictBreakerConfig(url, options string) string {
	return "routes: {svc: {prefix: /svc, upstream: '" + url + "', breaker: {fail_max: 1, recovery_timeout: 300}" + options + "}}\n"
}

// checkHealthy checks that an attack has had no lasting effect: no request is in flight, no failure is counted, the
// breaker is closed, and a normal request succeeds.
func checkHealthy(p *harness.Proxy) {
	p.T.Helper()
	harness.Eventually(p.T, "no request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	if got := p.RequestCounts("svc"); got["failure"] != 0 || got["rejected"] != 0 {
		p.T.Errorf("requests %v", got)
	}
	if s := p.Health().Services["svc"]; s.State != "closed" || s.FailCounter != 0 {
		p.T.Errorf("service %+v", s)
	}
	checkNormalRequest(p)
}

// checkNormalRequest checks that a normal request succeeds within half of harness.EventTimeout.
func checkNormalRequest(p *harness.Proxy) {
	p.T.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: harness.EventTimeout / 2}
	res, err := client.Get(p.URL + "/svc/fine")
	if r := harness.ReadResponse(p.T, res, err); r.Status != 200 {
		p.T.Errorf("a normal request: %+v", r)
	}
}

// readResponses reads responses from a connection until it ends.
func readResponses(t testing.TB, r *bufio.Reader) []harness.Response {
	t.Helper()
	var responses []harness.Response
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return responses
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("read the body of a response with status %v: %v", res.Status, err)
			return responses
		}
		responses = append(responses, harness.Response{Status: res.StatusCode, Header: res.Header, Body: string(body)})
	}
}

func statusCodes(responses []harness.Response) []int {
	codes := []int{}
	for _, r := range responses {
		codes = append(codes, r.Status)
	}
	return codes
}

// isProblem reports whether a response is an error that the proxy generated.
func isProblem(r harness.Response) bool {
	return r.Header.Get("Content-Type") == "application/problem+json" && strings.HasPrefix(r.Header.Get("Proxy-Status"), "cbproxy; error=")
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}
