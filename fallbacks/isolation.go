package fallbacks

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// isolation runs the Answer method of a strategy that is not inline on a separate goroutine with a copy of
// the request, so that a strategy that ignores its context can't delay the client.
type isolation struct {
	permits chan struct{} // holds one element for each running Answer
}

// maxRunning is how many calls of one strategy's Answer may run at once, including those whose
// time limit has passed. It bounds the goroutines of a strategy that never returns.
const maxRunning = 256

func newIsolation() *isolation { return &isolation{make(chan struct{}, maxRunning)} }

var (
	errTooManyRunning = errors.New("too many calls of the strategy are running")
	errExited         = errors.New("the strategy has ended its goroutine")
)

// answer returns when s.Answer returns or ctx is done.
func (i *isolation) answer(ctx context.Context, s Strategy, r *Request) (*Answer, error) {
	select {
	case i.permits <- struct{}{}:
	default:
		return nil, errTooManyRunning
	}
	type result struct {
		answer *Answer
		err    error
	}
	own := *r
	own.Header, own.Body = r.Header.Clone(), slices.Clone(r.Body)
	done := make(chan result, 1) // buffered: the receiver may have returned
	go func() {
		r := result{err: errExited}
		defer func() { <-i.permits; done <- r }() // also after runtime.Goexit
		a, err := callAnswer(ctx, s, &own)
		if a != nil { // copied, because the strategy may modify it later
			a = &Answer{a.Status, a.Header.Clone(), slices.Clone(a.Body)}
		}
		r = result{a, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// callAnswer calls s.Answer. A panic or a nil answer becomes an error.
func callAnswer(ctx context.Context, s Strategy, r *Request) (a *Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			a, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	a, err = s.Answer(ctx, r)
	if err == nil && a == nil {
		err = errors.New("no answer")
	}
	return a, err
}
