package soak

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// outcome is a value of the status label with which the proxy counts a request.
type outcome string

const (
	outcomeSuccess   outcome = "success"
	outcomeFailure   outcome = "failure"
	outcomeRejected  outcome = "rejected"
	outcomeCancelled outcome = "cancelled"
	outcomeUnknown   outcome = "" // the client can't tell how the proxy counts the request
)

var (
	rejectionReasons = []string{"open", "half_open_limit", "overload"} // the request was not sent to the upstream
	failureReasons   = []string{"connect", "timeout", "reset"}         // the request may have been sent to the upstream
	breakerStates    = []string{"closed", "open", "half-open"}

	// invalidRequestStatuses are the statuses with which the proxy may reject an invalid request to a route.
	invalidRequestStatuses = []int{http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge}
)

// validate stores the result of a request with a complete response, and returns its outcome. It returns an error if the
// response is invalid.
func (req *request) validate(res *http.Response, body string) (outcome, error) {
	h := res.Header
	req.status = res.StatusCode
	if err := req.checkBreakerFields(h); err != nil {
		return "", err
	}
	switch {
	case h["X-Fallback"] != nil:
		return req.validateFallback(res, body)
	case h.Get("Content-Type") == "application/problem+json":
		return req.validateProblem(res, body)
	}
	return req.validateUpstream(res, body)
}

// checkBreakerFields checks the X-Circuit-Breaker and Retry-After fields of a routed response.
func (req *request) checkBreakerFields(h http.Header) error {
	if v := h["X-Circuit-Breaker-Service"]; len(v) != 1 || v[0] != req.route.service {
		return fmt.Errorf("X-Circuit-Breaker-Service is %q", v)
	}
	if v := h["X-Circuit-Breaker-State"]; len(v) != 1 || !slices.Contains(breakerStates, v[0]) {
		return fmt.Errorf("X-Circuit-Breaker-State is %q", v)
	}
	if v := h["Retry-After"]; len(v) > 0 {
		if n, err := strconv.Atoi(v[0]); err != nil || n < 1 || len(v) > 1 {
			return fmt.Errorf("Retry-After is %q", v)
		}
	}
	return nil
}

func (req *request) validateFallback(res *http.Response, body string) (outcome, error) {
	h := res.Header
	strategies, reasons := h["X-Fallback"], h["X-Fallback-Reason"]
	if len(strategies) != 1 || len(reasons) != 1 || !slices.Contains(req.route.strategies, strategies[0]) {
		return "", fmt.Errorf("X-Fallback is %q for %q", strategies, reasons)
	}
	req.strategy, req.reason = strategies[0], reasons[0]
	result := outcomeFailure
	switch state := h.Get("X-Circuit-Breaker-State"); {
	case slices.Contains(rejectionReasons, req.reason):
		result = outcomeRejected
		if (req.reason == "open") != (state == "open") && req.strategy != "queue" || req.reason == "half_open_limit" && state == "closed" {
			return "", fmt.Errorf("reason %s in state %s", req.reason, state)
		}
	case slices.Contains(failureReasons, req.reason):
	case req.reason == "status" && (req.route.statusFallback || req.route.strategies[0] == "queue"): // behind queued requests: their reason
	default:
		return "", fmt.Errorf("X-Fallback-Reason is %q", req.reason)
	}
	if req.reason == "open" && h["Retry-After"] == nil && !req.route.forcedIndefinitely {
		return "", errors.New("no Retry-After in state open")
	}
	if !strings.HasPrefix(h.Get("Proxy-Status"), "cbproxy; error=") {
		return "", fmt.Errorf("Proxy-Status is %q", h["Proxy-Status"])
	}
	return result, req.checkStrategy(res, body)
}

// checkStrategy checks the status and the body of a fallback response.
func (req *request) checkStrategy(res *http.Response, body string) error {
	var fields map[string]any
	if req.strategy != "cache" && req.strategy != "upstream" {
		if err := json.Unmarshal([]byte(body), &fields); err != nil || res.Header.Get("Content-Type") != "application/json" {
			return fmt.Errorf("response of %s is not JSON: %q, %v", req.strategy, body, err)
		}
	}
	switch req.strategy {
	case "cache":
		if _, err := strconv.Atoi(res.Header.Get("Age")); err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("cached response with status %d, Age is %q", res.StatusCode, res.Header["Age"])
		}
		return req.checkUpstreamBody(body, true)
	case "upstream":
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d from the secondary upstream", res.StatusCode)
		}
		return req.checkUpstreamBody(body, false)
	case "template":
		if fields["id"] != strconv.FormatUint(req.id, 10) || fields["reason"] != req.reason || res.StatusCode != http.StatusOK ||
			req.method == http.MethodPost && fields["n"] != float64(req.id) {
			return fmt.Errorf("template response with status %d: %q", res.StatusCode, body)
		}
	case "queue":
		if res.StatusCode != http.StatusAccepted || fields["notification_queued"] != true || req.invalid {
			return fmt.Errorf("queued with status %d: %q", res.StatusCode, body)
		}
	case "static":
		want := http.StatusOK
		if slices.Contains(req.route.strategies[:len(req.route.strategies)-1], "queue") || req.route.statusFallback {
			want = http.StatusServiceUnavailable
		}
		for _, field := range req.route.staticFields {
			if _, ok := fields[field]; !ok || res.StatusCode != want {
				return fmt.Errorf("static response with status %d, want %d with the field %s: %q", res.StatusCode, want, field, body)
			}
		}
		if fields["notification_queued"] == true {
			return fmt.Errorf("a static response says that the request was queued: %q", body)
		}
	}
	return nil
}

// checkUpstreamBody checks that a body is the upstream's response to this request. A cached response may be the one to
// an earlier request with the same target and tenant.
func (req *request) checkUpstreamBody(body string, cached bool) error {
	first, _, hasLine := strings.Cut(body, "\n")
	id, _, _ := strings.Cut(first, " ")
	if !cached && id != strconv.FormatUint(req.id, 10) {
		return fmt.Errorf("response to request #%s", id)
	}
	line := responseLine(id, req.target, req.tenant, req.bodySum)
	if !hasLine || body != strings.Repeat(line, req.responseLines) {
		return fmt.Errorf("%d bytes, want %d lines of %q; the first is %q", len(body), req.responseLines, line, first)
	}
	return nil
}

func (req *request) validateUpstream(res *http.Response, body string) (outcome, error) {
	if res.Header.Get(idField) != strconv.FormatUint(req.id, 10) || res.Header["X-Fallback-Reason"] != nil {
		return "", fmt.Errorf("response of unknown origin: status %d, %v", res.StatusCode, res.Header)
	}
	if req.invalid {
		return "", errors.New("the upstream has responded to an incomplete request")
	}
	if err := req.checkUpstreamBody(body, false); err != nil {
		return "", err
	}
	switch res.StatusCode {
	case http.StatusOK:
		return outcomeSuccess, nil
	case http.StatusInternalServerError:
		return outcomeFailure, nil
	}
	return "", fmt.Errorf("status %d, which the upstream never sends", res.StatusCode)
}

func (req *request) validateProblem(res *http.Response, body string) (outcome, error) {
	if err := checkProblem(res, body); err != nil {
		return "", err
	}
	state := res.Header.Get("X-Circuit-Breaker-State")
	switch status := res.StatusCode; {
	case req.invalid && slices.Contains(invalidRequestStatuses, status),
		status == http.StatusRequestTimeout && req.method == http.MethodPost: // a client that gets no CPU time uploads slowly
		return outcomeCancelled, nil
	case len(req.route.strategies) > 0:
		return "", fmt.Errorf("status %d instead of a fallback: %s", status, body)
	case status == http.StatusServiceUnavailable:
		if state == "open" && strings.Contains(body, "is open") && res.Header["Retry-After"] == nil {
			return "", errors.New("no Retry-After in state open")
		}
		return outcomeRejected, nil
	case status == http.StatusBadGateway, status == http.StatusGatewayTimeout:
		return outcomeFailure, nil
	}
	return "", fmt.Errorf("status %d: %s", res.StatusCode, body)
}

// checkProblem checks that a response is a valid problem document without the upstream's address.
func checkProblem(res *http.Response, body string) error {
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	err := json.Unmarshal([]byte(body), &p)
	switch {
	case err != nil || p.Status != res.StatusCode || p.Title == "" || p.Type == "" || p.Detail == "":
		return fmt.Errorf("status %d with the problem document %q, %v", res.StatusCode, body, err)
	case strings.Contains(body, "127.0.0.1"):
		return fmt.Errorf("the problem document contains the upstream's address: %q", body)
	case !strings.HasPrefix(res.Header.Get("Proxy-Status"), "cbproxy; error="):
		return fmt.Errorf("Proxy-Status is %q", res.Header["Proxy-Status"])
	}
	return nil
}
