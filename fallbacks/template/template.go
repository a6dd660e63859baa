// Package template implements the fallback strategy template, which renders its answer from the
// request. The texts of the configured JSON body may be text/template templates.
//
// Templates come from the operator's configuration, their input from clients. Each text and the
// whole body have a size limit, ranges over numbers are limited, and execution ends with the
// request's context. A request can't change the structure of the answer: results are inserted
// into the JSON body as encoded values.
package template

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"cbproxy/fallbacks"
	"cbproxy/routes"
)

// Options configures the template strategy, which renders its answer from the request.
type Options struct {
	// Status of the answer.
	Status int `yaml:"status" valid:"200..599"`
	// Headers of the answer; their values are not templates. Content-Type is application/json unless it is set here.
	Headers map[string]string `yaml:"headers"`
	// Body, any YAML value, served as JSON. Its texts, but not its keys, may be Go templates with the functions service, reason, method, path N, query NAME, header NAME, json PATH and default VALUE in addition to those of text/template. Functions treat numbers from json as texts. A text that is a single action becomes the value of that action, of whatever type, or null if it is missing.
	Body fallbacks.JSON `yaml:"body"`
	// Longest request body that json reads. All fields of a longer body, or of one that is not JSON, are missing.
	MaxBody routes.Size `yaml:"max_body" valid:"1..1MiB"`
}

// DefaultOptions returns the options with their default values.
func DefaultOptions() *Options {
	return &Options{Status: http.StatusOK, MaxBody: 64 << 10}
}

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	fallbacks.ValidateAnswer(o.Status, o.Headers, o.Body, report)
	parseBody(o.Body, report)
}

// Strategy implements fallbacks.Strategy.
type Strategy struct {
	answer    fallbacks.Answer // without its body
	bodyLimit int64
	renderer  *renderer
}

// New returns a strategy that renders o.Body. It fails if a template is invalid.
func New(o *Options, _ fallbacks.Env) (fallbacks.Strategy, error) {
	var failures []error
	body := parseBody(o.Body, func(path, message string) { failures = append(failures, fmt.Errorf("%s: %s", path, message)) })
	if len(failures) > 0 {
		return nil, errors.Join(failures...)
	}
	r, err := newRenderer(body)
	if err != nil {
		return nil, err
	}
	s := &Strategy{answer: fallbacks.ConfiguredAnswer(o.Status, o.Headers), renderer: r}
	if body.usesJSON {
		s.bodyLimit = int64(o.MaxBody)
	}
	return s, nil
}

// BodyLimit returns max_body if a template uses the request's body, else 0.
func (s *Strategy) BodyLimit() int64 { return s.bodyLimit }

// Answer fails if a template fails, if the result is too long, or if ctx is done.
func (s *Strategy) Answer(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	body, err := s.renderer.render(ctx, r)
	if err != nil {
		return nil, err
	}
	a := s.answer
	a.Body = body
	return &a, nil
}
