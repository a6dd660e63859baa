package fallbacks

import (
	"context"
	"errors"
	"fmt"
)

// Chain is a fallback's strategies in the order in which they are tried. Safe for
// concurrent use.
type Chain struct{ steps []Step }

// Step is one strategy of a chain with its name.
type Step struct {
	Name     string
	Strategy Strategy
}

// NewChain returns a chain of steps.
func NewChain(steps ...Step) *Chain { return &Chain{steps} }

// Answer returns the answer of the first strategy that has one, and that strategy's name.
// The error joins why none has. A strategy that panics has none.
func (c *Chain) Answer(ctx context.Context, r *Request) (a *Answer, strategy string, err error) {
	var declined []error
	for i := range c.steps {
		s := &c.steps[i]
		a, err := s.answer(ctx, r)
		if err == nil {
			return a, s.Name, nil
		}
		declined = append(declined, fmt.Errorf("%s: %w", s.Name, err))
	}
	return nil, "", errors.Join(declined...)
}

func (s *Step) answer(ctx context.Context, r *Request) (a *Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	a, err = s.Strategy.Answer(ctx, r)
	if err == nil && a == nil {
		err = errors.New("no answer")
	}
	return a, err
}
