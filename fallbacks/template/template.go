// Package template implements the fallback strategy template, which renders its answer from the
// request. The strings of the configured JSON body may be text/template templates.
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

	"cbproxy/fallbacks"
)

// Strategy implements fallbacks.Strategy and fallbacks.Selective.
type Strategy struct {
	fallbacks.Selection
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
	s := &Strategy{Selection: o.selection(), answer: fallbacks.ConfiguredAnswer(o.Status, o.Headers), renderer: r}
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
