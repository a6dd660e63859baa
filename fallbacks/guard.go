package fallbacks

import (
	"context"
	"errors"
	"net/http"
	"slices"
)

// guard keeps a strategy that is not the proxy's own from holding requests up: it is asked on
// a goroutine of its own, and who waits leaves when the time is over. What it is given is a
// copy, so that it may go on with it.
type guard struct {
	places chan struct{} // holds a token for each Answer under way
}

// maxStuck is how many answers of one strategy may be awaited, or have been given up and go on
// nevertheless. A strategy that never returns costs so many goroutines at most.
const maxStuck = 256

func newGuard() *guard { return &guard{make(chan struct{}, maxStuck)} }

var errStuck = errors.New("too many answers are under way")

func (g *guard) answer(ctx context.Context, s Strategy, r *Request) (*Answer, error) {
	select {
	case g.places <- struct{}{}:
	default:
		return nil, errStuck
	}
	type result struct {
		answer *Answer
		err    error
	}
	own := *r
	own.Header, own.Body = r.Header.Clone(), slices.Clone(r.Body)
	done := make(chan result, 1) // nobody may be there to take it
	go func() {
		defer func() { <-g.places }()
		a, err := ask(ctx, s, &own)
		if a != nil { // it may keep what it has given, and change it
			a = &Answer{a.Status, http.Header(a.Header).Clone(), slices.Clone(a.Body)}
		}
		done <- result{a, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
