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
	checkAnswer(o.Status, o.Headers, o.Body, report)
}

// checkAnswer reports what is wrong with an answer that options hold.
func checkAnswer(status int, headers map[string]string, body JSON, report func(path, message string)) {
	for name, value := range headers {
		path := "headers." + spell(name)
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
	case noBody(status) && len(body) > 0:
		report("body", "must not be given: a response with status "+strconv.Itoa(status)+" has no body")
	case !noBody(status) && len(body) == 0:
		report("body", "must be given: any YAML value, served as JSON")
	}
}

// spell returns a key for a path, which is one line.
func spell(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(key)
	}
	return key
}

// configured returns an answer that options hold, all but its body.
func configured(status int, headers map[string]string) Answer {
	h := make(http.Header, len(headers)+2)
	if !noBody(status) {
		h.Set("Content-Type", "application/json")
	}
	for name, value := range headers {
		h.Set(name, value)
	}
	return Answer{Status: status, Header: h}
}

// static holds its one answer.
type static struct{ answer Answer }

func newStatic(o *StaticOptions, _ Site) (Strategy, error) {
	a := configured(o.Status, o.Headers)
	a.Body = o.Body
	if !noBody(o.Status) {
		a.Header.Set("Content-Length", strconv.Itoa(len(o.Body)))
	}
	return &static{a}, nil
}

// Answer never fails.
func (s *static) Answer(context.Context, *Request) (*Answer, error) { return &s.answer, nil }

// constant: there is one answer.
func (s *static) constant() *Answer { return &s.answer }
