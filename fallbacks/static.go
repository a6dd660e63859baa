package fallbacks

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// StaticOptions configures the static strategy, which always gives the same answer.
type StaticOptions struct {
	// Status of the answer.
	Status int `yaml:"status" valid:"200..599"`
	// Headers of the answer; Content-Type is application/json unless it is set here.
	Headers map[string]string `yaml:"headers"`
	// Body, any YAML value, served as JSON.
	Body JSON `yaml:"body"`
}

func defaultStaticOptions() *StaticOptions { return &StaticOptions{Status: http.StatusOK} }

// Validate reports what the types can't say, by path below the options.
func (o *StaticOptions) Validate(report func(path, message string)) {
	for name, value := range o.Headers {
		path := "headers." + name
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			report(path, "must be a header field name of letters, digits and !#$%&'*+-.^_`|~, got "+strconv.Quote(name))
		case !httpguts.ValidHeaderFieldValue(value):
			report(path, "must be a header field value without control characters, got "+strconv.Quote(value))
		case reserved(http.CanonicalHeaderKey(name)):
			report(path, "must not be set here: cbproxy sets it")
		}
	}
	switch {
	case noBody(o.Status) && len(o.Body) > 0:
		report("body", "must not be given: a response with status "+strconv.Itoa(o.Status)+" has no body")
	case !noBody(o.Status) && len(o.Body) == 0:
		report("body", "must be given: any YAML value, served as JSON")
	}
}

func noBody(status int) bool {
	return status == http.StatusNoContent || status == http.StatusNotModified
}

// reserved reports whether the proxy or the HTTP stack sets the field itself.
func reserved(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Date", "Keep-Alive", "Proxy-Status", "Retry-After",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Fallback", "X-Fallback-Reason":
		return true
	}
	return strings.HasPrefix(name, "X-Circuit-Breaker-")
}

// static holds its one answer.
type static struct{ answer Answer }

func newStatic(o *StaticOptions) (Strategy, error) {
	h := make(http.Header, len(o.Headers)+2)
	if !noBody(o.Status) {
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(o.Body)))
	}
	for name, value := range o.Headers {
		h.Set(name, value)
	}
	return &static{Answer{Status: o.Status, Header: h, Body: o.Body}}, nil
}

// Answer never fails.
func (s *static) Answer(context.Context, *Request) (*Answer, error) { return &s.answer, nil }
