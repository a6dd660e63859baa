// Package problem writes error responses: problem details (RFC 9457) with a Proxy-Status field (RFC 9209).
package problem

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// ProxyName identifies this proxy in Proxy-Status fields (RFC 9209).
	ProxyName = "cbproxy"
	// ContentType is the media type of a problem in JSON.
	ContentType = "application/problem+json"
)

// Problem is an error response of the proxy itself. It is immutable, so requests can share it.
type Problem struct {
	status      int
	detail      string
	body        []byte
	proxyStatus []string
	allow       string // value of the Allow field; empty: none
}

// New returns a problem. proxyError is an error type of RFC 9209, section 2.3. The detail goes to clients, so it must
// not contain the address of an upstream.
func New(status int, proxyError, detail string) *Problem {
	return &Problem{
		status:      status,
		detail:      detail,
		body:        Body(status, detail),
		proxyStatus: []string{ProxyName + "; error=" + proxyError},
	}
}

// Body returns the JSON of a problem. errs lists the individual errors, if the detail stands for several; they are the
// member "faults".
func Body(status int, detail string, errs ...string) []byte {
	body, _ := json.Marshal(struct { // strings and integers can always be marshalled
		Type   string   `json:"type"`
		Title  string   `json:"title"`
		Status int      `json:"status"`
		Detail string   `json:"detail"`
		Faults []string `json:"faults,omitempty"`
	}{"about:blank", http.StatusText(status), status, detail, errs})
	return body
}

// WithAllow returns a copy of the problem that has an Allow field with the given value.
func (p *Problem) WithAllow(methods string) *Problem {
	c := *p
	c.allow = methods
	return &c
}

// Status returns the HTTP status code.
func (p *Problem) Status() int { return p.status }

// Detail returns the explanation for the client.
func (p *Problem) Detail() string { return p.detail }

// ProxyStatus returns the values of the Proxy-Status field. The caller must not modify them.
func (p *Problem) ProxyStatus() []string { return p.proxyStatus }

var contentTypes = []string{ContentType}

// Write sends the problem as the response. Header fields that the caller has set on w are kept.
func (p *Problem) Write(w http.ResponseWriter) {
	h := w.Header()
	h["Content-Type"] = contentTypes
	h["Content-Length"] = []string{strconv.Itoa(len(p.body))}
	h["Proxy-Status"] = p.proxyStatus
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body) // fails only if the client has disconnected
}

// AppendHTTP1 appends the problem to b as a complete HTTP/1.1 response that closes the connection.
func (p *Problem) AppendHTTP1(b []byte, date time.Time) []byte {
	b = fmt.Appendf(b, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nProxy-Status: %s\r\nDate: %s\r\nConnection: close\r\n\r\n",
		p.status, http.StatusText(p.status), ContentType, len(p.body), p.proxyStatus[0], date.UTC().Format(http.TimeFormat))
	return append(b, p.body...)
}
