package fallbacks

import (
	"context"
	"errors"

	"cbproxy/internal/events"
)

// Tester is implemented by strategies whose Answer has an effect that must not follow from a test of the fallback, such as a stored
// request or a counted failure. Of the other strategies, a test calls Answer with a Request whose Reason is "test", except that a
// Storer without this method is passed over.
type Tester interface {
	// AnswerTest returns what Answer would return for r, without that effect.
	AnswerTest(ctx context.Context, r *Request) (*Answer, error)
}

// testStrategy is what a test of the fallback calls instead of a Tester.
type testStrategy struct{ Tester }

// Answer implements Strategy.
func (s testStrategy) Answer(ctx context.Context, r *Request) (*Answer, error) {
	return s.AnswerTest(ctx, r)
}

// untestable is what a test of the fallback calls instead of a Storer that is no Tester.
type untestable struct{}

var errUntestable = errors.New("it stores requests, and has no method AnswerTest for a test")

// Answer implements Strategy.
func (untestable) Answer(context.Context, *Request) (*Answer, error) { return nil, errUntestable }

// initTest sets the strategy for tests.
func (s *step) initTest() {
	s.test = s.strategy
	if t, ok := s.strategy.(Tester); ok {
		s.test = testStrategy{t}
	} else if s.stores {
		s.test = untestable{}
	}
}

// strategyFor returns the strategy to call for r.
func (s *step) strategyFor(r *Request) Strategy {
	if r.Reason == string(events.ReasonTest) {
		return s.test
	}
	return s.strategy
}
