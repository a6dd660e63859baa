package soak

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// question is a request of the soak test with its result.
type question struct {
	id       uint64
	route    *soakRoute
	instance int
	method   string
	target   string // as received by the upstream
	tenant   string // the Authorization field
	sum      uint32 // of the body
	key      string // the Idempotency-Key
	lines    int    // that the upstream's answer has
	cuttable bool   // the response is streamed before it is complete
	faulty   bool   // the request is invalid
	from     string // who asks, for the order of what is queued

	left      bool // the client disconnected before the response
	disturbed bool // the instance was down at some time during the request
	status    int  // 0: no response
	strategy  string
	reason    string
	broken    bool // the response was incomplete
}

func (q *question) String() string {
	return fmt.Sprintf("#%d %s %s of %s at instance %d", q.id, q.method, q.target, q.route.service, q.instance)
}

// certain reports whether the client knows how the proxy handled the request.
func (q *question) certain() bool { return !q.left && !q.disturbed }

// The reasons with which a request is not even tried, and those after which it may have been.
var (
	untried  = []string{"open", "half_open_limit", "overload"}
	tried    = []string{"connect", "timeout", "reset"}
	stateSet = []string{"closed", "open", "half-open"}
)

// class is how the proxy must count a response.
type class string

const (
	classSuccess   class = "success"
	classFailure   class = "failure"
	classRejected  class = "rejected"
	classCancelled class = "cancelled"
)

// checkSignallingFields checks the X-Circuit-Breaker and Retry-After fields of a routed response.
func (q *question) checkSignallingFields(h http.Header) error {
	if v := h["X-Circuit-Breaker-Service"]; len(v) != 1 || v[0] != q.route.service {
		return fmt.Errorf("X-Circuit-Breaker-Service is %q", v)
	}
	if v := h["X-Circuit-Breaker-State"]; len(v) != 1 || !slices.Contains(stateSet, v[0]) {
		return fmt.Errorf("X-Circuit-Breaker-State is %q", v)
	}
	if v := h["Retry-After"]; len(v) > 0 {
		if n, err := strconv.Atoi(v[0]); err != nil || n < 1 || len(v) > 1 {
			return fmt.Errorf("Retry-After is %q", v)
		}
	}
	return nil
}

// judge returns the class of a complete response, and an error if it is invalid.
func (q *question) judge(res *http.Response, body string) (class, error) {
	h := res.Header
	q.status = res.StatusCode
	if err := q.checkSignallingFields(h); err != nil {
		return "", err
	}
	switch {
	case h["X-Fallback"] != nil:
		return q.checkFallback(res, body)
	case h.Get("Content-Type") == "application/problem+json":
		return q.checkProblem(res, body)
	}
	return q.checkUpstream(res, body)
}

func (q *question) checkFallback(res *http.Response, body string) (class, error) {
	h := res.Header
	strategies, reasons := h["X-Fallback"], h["X-Fallback-Reason"]
	if len(strategies) != 1 || len(reasons) != 1 || !slices.Contains(q.route.try, strategies[0]) {
		return "", fmt.Errorf("X-Fallback is %q for %q", strategies, reasons)
	}
	q.strategy, q.reason = strategies[0], reasons[0]
	counts := classFailure
	switch state := h.Get("X-Circuit-Breaker-State"); {
	case slices.Contains(untried, q.reason):
		counts = classRejected
		if (q.reason == "open") != (state == "open") && q.strategy != "queue" || q.reason == "half_open_limit" && state == "closed" {
			return "", fmt.Errorf("reason %s while %s", q.reason, state)
		}
	case slices.Contains(tried, q.reason), q.reason == "status" && (q.route.status || q.route.try[0] == "queue"): // why those before it wait
	default:
		return "", fmt.Errorf("X-Fallback-Reason is %q", q.reason)
	}
	if q.reason == "open" && h["Retry-After"] == nil && !q.route.endless {
		return "", errors.New("no Retry-After while open")
	}
	if !strings.HasPrefix(h.Get("Proxy-Status"), "cbproxy; error=") {
		return "", fmt.Errorf("Proxy-Status is %q", h["Proxy-Status"])
	}
	return counts, q.checkStrategy(res, body)
}

func (q *question) checkStrategy(res *http.Response, body string) error {
	var fields map[string]any
	if q.strategy != "cache" && q.strategy != "upstream" {
		if err := json.Unmarshal([]byte(body), &fields); err != nil || res.Header.Get("Content-Type") != "application/json" {
			return fmt.Errorf("%s is no JSON: %q, %v", q.strategy, body, err)
		}
	}
	switch q.strategy {
	case "cache":
		if _, err := strconv.Atoi(res.Header.Get("Age")); err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d of the cache, Age is %q", res.StatusCode, res.Header["Age"])
		}
		return q.checkLines(body, true)
	case "upstream":
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d of the second upstream", res.StatusCode)
		}
		return q.checkLines(body, false)
	case "template":
		if fields["id"] != strconv.FormatUint(q.id, 10) || fields["reason"] != q.reason || res.StatusCode != http.StatusOK ||
			q.method == http.MethodPost && fields["n"] != float64(q.id) {
			return fmt.Errorf("the template made %q", body)
		}
	case "queue":
		if res.StatusCode != http.StatusAccepted || fields["notification_queued"] != true || q.faulty {
			return fmt.Errorf("queued with %d: %q", res.StatusCode, body)
		}
	case "static":
		want := http.StatusOK
		if slices.Contains(q.route.try[:len(q.route.try)-1], "queue") || q.route.status {
			want = http.StatusServiceUnavailable
		}
		for _, field := range q.route.fields {
			if _, ok := fields[field]; !ok || res.StatusCode != want {
				return fmt.Errorf("status %d, and no %s in %q", res.StatusCode, field, body)
			}
		}
		if fields["notification_queued"] == true {
			return fmt.Errorf("the response says it was queued: %q", body)
		}
	}
	return nil
}

// checkLines checks that the upstream's answer is the one to this request, or with anybody's to the same
// question.
func (q *question) checkLines(body string, anybodys bool) error {
	first, _, whole := strings.Cut(body, "\n")
	id, _, _ := strings.Cut(first, " ")
	if !anybodys && id != strconv.FormatUint(q.id, 10) {
		return fmt.Errorf("the answer to #%s", id)
	}
	if !whole || body != strings.Repeat(soakLine(id, q.target, q.tenant, q.sum), q.lines) {
		return fmt.Errorf("%d bytes instead of %d lines of %q, first %q", len(body), q.lines, soakLine(id, q.target, q.tenant, q.sum), first)
	}
	return nil
}

func (q *question) checkUpstream(res *http.Response, body string) (class, error) {
	if res.Header.Get(soakID) != strconv.FormatUint(q.id, 10) || res.Header["X-Fallback-Reason"] != nil {
		return "", fmt.Errorf("response of unknown origin: status %d, %v", res.StatusCode, res.Header)
	}
	if q.faulty {
		return "", errors.New("the upstream has answered to a request that never was whole")
	}
	if err := q.checkLines(body, false); err != nil {
		return "", err
	}
	switch res.StatusCode {
	case http.StatusOK:
		return classSuccess, nil
	case http.StatusInternalServerError:
		return classFailure, nil
	}
	return "", fmt.Errorf("the upstream's status became %d", res.StatusCode)
}

// problemStatuses are those with which the proxy may refuse a faulty request.
var problemStatuses = []int{http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge}

func (q *question) checkProblem(res *http.Response, body string) (class, error) {
	if err := problemOf(res, body); err != nil {
		return "", err
	}
	state := res.Header.Get("X-Circuit-Breaker-State")
	switch s := res.StatusCode; {
	case q.faulty && slices.Contains(problemStatuses, s), s == http.StatusRequestTimeout && q.method == http.MethodPost: // a client without CPU time is slow
		return classCancelled, nil
	case len(q.route.try) > 0:
		return "", fmt.Errorf("status %d where a fallback applies: %s", s, body)
	case s == http.StatusServiceUnavailable:
		if state == "open" && strings.Contains(body, "is open") && res.Header["Retry-After"] == nil {
			return "", errors.New("no Retry-After while open")
		}
		return classRejected, nil
	case s == http.StatusBadGateway, s == http.StatusGatewayTimeout:
		return classFailure, nil
	}
	return "", fmt.Errorf("status %d: %s", res.StatusCode, body)
}

// problemOf checks that a response is a valid problem document without the upstream's address.
func problemOf(res *http.Response, body string) error {
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	err := json.Unmarshal([]byte(body), &p)
	switch {
	case err != nil || p.Status != res.StatusCode || p.Title == "" || p.Type == "" || p.Detail == "":
		return fmt.Errorf("status %d with %q, %v", res.StatusCode, body, err)
	case strings.Contains(body, "127.0.0.1"):
		return fmt.Errorf("the upstream's address in %q", body)
	case !strings.HasPrefix(res.Header.Get("Proxy-Status"), "cbproxy; error="):
		return fmt.Errorf("Proxy-Status is %q", res.Header["Proxy-Status"])
	}
	return nil
}

// hangs is how much longer than the route's timeout nothing may ever take.
const hangs = 15 * time.Second
