// Package static implements the fallback strategy static, which gives the same answer to every
// request.
package static

import (
	"context"
	"strconv"

	"cbproxy/fallbacks"
)

// Strategy implements fallbacks.Strategy, fallbacks.Constant and fallbacks.Selective.
type Strategy struct {
	fallbacks.Selection
	answer fallbacks.Answer
}

// New returns a strategy with the answer that o describes. It never fails.
func New(o *Options, _ fallbacks.Env) (fallbacks.Strategy, error) {
	a := fallbacks.ConfiguredAnswer(o.Status, o.Headers)
	a.Body = o.Body
	if fallbacks.BodyAllowed(o.Status) {
		a.Header.Set("Content-Length", strconv.Itoa(len(o.Body)))
	}
	return &Strategy{o.selection(), a}, nil
}

// Answer returns the configured answer. It never fails.
func (s *Strategy) Answer(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
	return &s.answer, nil
}

// ConstantAnswer implements fallbacks.Constant.
func (s *Strategy) ConstantAnswer() *fallbacks.Answer { return &s.answer }
