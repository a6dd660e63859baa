package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sony/gobreaker/v2"
)

// errRefused is the error of a call that the caller's own breaker did not let out.
var errRefused = errors.New("the caller's own breaker is open")

// caller asks one service and counts.
type caller struct {
	client  *http.Client
	url     string
	breaker *gobreaker.CircuitBreaker[bool] // nil: it has none

	answered, fallbacks, failed, refused int
}

// newBreaker returns what stands for any client-side breaker.
func newBreaker() *gobreaker.CircuitBreaker[bool] {
	return gobreaker.NewCircuitBreaker[bool](gobreaker.Settings{
		Timeout:     time.Minute,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 },
	})
}

// call sends one request and counts what came of it.
func (c *caller) call(ctx context.Context) {
	stoodIn, err := c.ask(ctx)
	switch {
	case errors.Is(err, errRefused):
		c.refused++
	case err != nil:
		c.failed++
	case stoodIn:
		c.fallbacks++
	default:
		c.answered++
	}
}

// summary tells what came of all calls.
func (c *caller) summary() string {
	text := fmt.Sprintf("%d answered by the service, %d by a fallback, %d failed", c.answered, c.fallbacks, c.failed)
	if c.breaker != nil {
		text += fmt.Sprintf(", %d refused by the caller's own breaker, which is %s", c.refused, c.breaker.State())
	}
	return text
}

// ask sends one request, if the caller's own breaker lets it. stoodIn tells that cbproxy answered in
// the service's place.
func (c *caller) ask(ctx context.Context) (stoodIn bool, err error) {
	if c.breaker == nil {
		return c.send(ctx)
	}
	stoodIn, err = c.breaker.Execute(func() (bool, error) { return c.send(ctx) })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		err = errRefused
	}
	return stoodIn, err
}

// send sends one request. An answer of 500 or more is an error as no answer is: cbproxy's own errors are
// such answers.
func (c *caller) send(ctx context.Context) (stoodIn bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return false, err
	}
	res, err := c.client.Do(r)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode >= 500 {
		return false, fmt.Errorf("the answer is %s", res.Status)
	}
	return res.Header.Get("X-Fallback") != "", nil
}
