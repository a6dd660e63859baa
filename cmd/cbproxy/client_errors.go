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

// refusal is an answer other than 200.
type refusal struct {
	status int
	text   string // what it means, and what to do about it
}

func (r *refusal) Error() string { return r.text }

// refusal returns what an answer other than 200 means.
func (c *client) refusal(res *http.Response) *refusal {
	var problem struct {
		Detail string
		Faults []string
	}
	content, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // what there is of it is told
	text := res.Status
	if json.Unmarshal(content, &problem) == nil && problem.Detail != "" {
		text = problem.Detail
	}
	for _, fault := range problem.Faults {
		text += "; " + fault
	}
	text = fmt.Sprintf("cbproxy at %s refuses: %s", c.address, short(text, 4000))
	switch {
	case res.StatusCode == http.StatusBadRequest && strings.Contains(string(content), "HTTP request to an HTTPS server"): // says Go's server
		text = fmt.Sprintf("%s speaks TLS: give --admin https://…, and --ca-file FILE if its certificate is of an authority of your own", c.address)
	case res.StatusCode == http.StatusUnauthorized && c.token == "":
		text += "\nGive the admin token with --token-file FILE or in " + routes.TokenVariable
	case res.StatusCode == http.StatusUnauthorized:
		text += "\nThe token from " + c.tokenOrigin + " is not the one that the proxy knows"
	case res.StatusCode == http.StatusForbidden && (problem.Detail == "" || strings.Contains(problem.Detail, "no token is configured")):
		text += "\nThe proxy itself must be given a token: admin.token_file in its configuration, or " + routes.TokenVariable + " where it runs"
	case res.StatusCode >= 300 && res.StatusCode < 400:
		text = fmt.Sprintf("%s answers with a redirect (%s), which is not followed: give --admin the address itself", c.address, clean(res.Status))
	case res.Header.Get("Proxy-Status") != "" || problem.Detail == "":
		text += "\n" + elsewhere
	}
	return &refusal{res.StatusCode, text}
}

// What to do where somebody else answers, or nobody.
const (
	elsewhere = "Is --admin the admin plane, and not the data plane? Its address is admin.listen in the proxy's configuration"
	nowhere   = "Is it running there? --admin URL or " + adminVariable + " says where it is"
)

// stranger is the error of an answer that no admin plane gives.
func (c *client) stranger() error {
	return failure(fmt.Errorf("%s does not answer as cbproxy's admin API does\n%s", c.address, elsewhere))
}

// unanswered says why there was no answer, and what to do about it.
func (c *client) unanswered(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	text, advice := clean(err.Error()), elsewhere
	var untrusted *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		text, advice = fmt.Sprintf("nothing came within %v", c.timeout), "Is the address right? --timeout has it wait longer"
	case errors.As(err, &untrusted):
		advice = "Give the certificate of its authority with --ca-file FILE, and the name that it is for in --admin"
	case errors.Is(err, http.ErrSchemeMismatch):
		text, advice = "it speaks no TLS", "Give --admin http://…"
	case errors.As(err, &network) && network.Op == "dial":
		advice = nowhere
	}
	return failure(fmt.Errorf("no answer from cbproxy at %s: %s\n%s", c.address, text, advice))
}

// brokenOff is the error of an answer of which only a part came.
func (c *client) brokenOff(err error) error {
	text, advice := clean(err.Error()), "If it does so again, its log may tell why"
	if errors.Is(err, context.DeadlineExceeded) {
		text, advice = fmt.Sprintf("the rest did not come within %v", c.timeout), "--timeout has it wait longer"
	}
	return failure(fmt.Errorf("cbproxy at %s broke off its answer: %s\n%s", c.address, text, advice))
}
