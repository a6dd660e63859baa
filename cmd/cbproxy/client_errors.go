package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"cbproxy/routes"
)

// refusal is the error of a response whose status is not 200, 201 or 202.
type refusal struct {
	status int
	text   string // the reason, and what to do about it
}

func (r *refusal) Error() string { return r.text }

// refusal describes a response whose status is not 200, 201 or 202.
func (c *client) refusal(res *http.Response) *refusal {
	var problem struct {
		Detail string
		Faults []string
	}
	content, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // a partial body is reported, too
	text := res.Status
	if json.Unmarshal(content, &problem) == nil && problem.Detail != "" {
		text = problem.Detail
	}
	for _, fault := range problem.Faults {
		text += "; " + fault
	}
	text = fmt.Sprintf("cbproxy at %s rejects the request: %s", c.address, short(text, 4000))
	switch {
	case res.StatusCode == http.StatusBadRequest && strings.Contains(string(content), "HTTP request to an HTTPS server"): // net/http's own text
		text = fmt.Sprintf("%s uses TLS: give --admin https://…, and --ca-file FILE if its certificate is from a private authority", c.address)
	case res.StatusCode == http.StatusUnauthorized && c.token == "":
		text += "\nGive the admin token with --token-file FILE or in " + routes.TokenVariable
	case res.StatusCode == http.StatusUnauthorized:
		text += "\nThe token from " + c.tokenOrigin + " is not the one that the proxy expects"
	case res.StatusCode == http.StatusForbidden && (problem.Detail == "" || strings.Contains(problem.Detail, "no token is configured")):
		text += "\nConfigure a token for the proxy: admin.token_file in its configuration, or " + routes.TokenVariable + " where it runs"
	case res.StatusCode >= 300 && res.StatusCode < 400:
		text = fmt.Sprintf("%s responds with a redirect (%s), which is not followed: give --admin the final address", c.address, clean(res.Status))
	case res.Header.Get("Proxy-Status") != "" || problem.Detail == "":
		text += "\n" + wrongAddressAdvice
	}
	return &refusal{res.StatusCode, text}
}

// Advice for a response that is not from the admin API, and for a refused connection.
const (
	wrongAddressAdvice = "Is --admin the admin plane, and not the data plane? Its address is admin.listen in the proxy's configuration"
	notRunningAdvice   = "Is it running there? Set its address with --admin URL or " + adminVariable
)

// notAdminAPI is the error of a response that is not from the admin API.
func (c *client) notAdminAPI() error {
	return failure(fmt.Errorf("%s is not the admin API of cbproxy\n%s", c.address, wrongAddressAdvice))
}

// sendError explains why there is no response, and what to do about it.
func (c *client) sendError(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	text, advice := clean(err.Error()), wrongAddressAdvice
	var untrusted *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		text, advice = fmt.Sprintf("no response within %v", c.timeout), "Is the address right? --timeout sets a longer limit"
	case errors.As(err, &untrusted):
		advice = "Give the certificate of its authority with --ca-file FILE, and use a host name in --admin that the certificate is valid for"
	case errors.Is(err, http.ErrSchemeMismatch):
		text, advice = "it does not use TLS", "Give --admin http://…"
	case errors.As(err, &network) && network.Op == "dial":
		advice = notRunningAdvice
	}
	return failure(fmt.Errorf("no response from cbproxy at %s: %s\n%s", c.address, text, advice))
}

// truncated is the error of an incomplete response.
func (c *client) truncated(err error) error {
	text, advice := clean(err.Error()), "If it happens again, see the log of the proxy"
	if errors.Is(err, context.DeadlineExceeded) {
		text, advice = fmt.Sprintf("no complete response within %v", c.timeout), "--timeout sets a longer limit"
	}
	return failure(fmt.Errorf("cbproxy at %s sent an incomplete response: %s\n%s", c.address, text, advice))
}
