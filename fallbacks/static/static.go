// Package static implements the fallback strategy static, which gives the same answer to every
// request.
package static

import (
	"context"
	"net/http"
	"strconv"

	"cbproxy/fallbacks"
)

// Options configures the static strategy, which gives the same answer to every request.
type Options struct {
	// Status of the answer.
	Status int `yaml:"status" valid:"200..599"`
	// Headers of the answer. Content-Type is application/json unless it is set here.
	Headers map[string]string `yaml:"headers"`
	// Body, any YAML value, served as JSON.
	Body fallbacks.JSON `yaml:"body"`
}

// DefaultOptions returns the options with their default values.
func DefaultOptions() *Options { return &Options{Status: http.StatusOK} }

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	fallbacks.ValidateAnswer(o.Status, o.Headers, o.Body, report)
}

// Strategy implements fallbacks.Strategy and fallbacks.Constant.
type Strategy struct{ answer fallbacks.Answer }

// New returns a strategy with the answer that o describes. It never fails.
func New(o *Options, _ fallbacks.Env) (fallbacks.Strategy, error) {
	a := fallbacks.ConfiguredAnswer(o.Status, o.Headers)
	a.Body = o.Body
	if fallbacks.BodyAllowed(o.Status) {
		a.Header.Set("Content-Length", strconv.Itoa(len(o.Body)))
	}
	return &Strategy{a}, nil
}

// Answer returns the configured answer. It never fails.
func (s *Strategy) Answer(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
	return &s.answer, nil
}

// ConstantAnswer implements fallbacks.Constant.
func (s *Strategy) ConstantAnswer() *fallbacks.Answer { return &s.answer }
