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

// errRejected is the error of a call that the caller's own breaker rejected.
var errRejected = errors.New("the caller's own breaker is open")

// caller calls one service and counts the results.
type caller struct {
	client  *http.Client
	url     string
	breaker *gobreaker.CircuitBreaker[bool] // nil if the caller has no breaker

	answered, fallbacks, failed, rejected int
}

// newBreaker returns a typical client-side breaker.
func newBreaker() *gobreaker.CircuitBreaker[bool] {
	return gobreaker.NewCircuitBreaker[bool](gobreaker.Settings{
		Timeout:     time.Minute,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 },
	})
}

// call sends one request and counts its result.
func (c *caller) call(ctx context.Context) {
	fallback, err := c.do(ctx)
	switch {
	case errors.Is(err, errRejected):
		c.rejected++
	case err != nil:
		c.failed++
	case fallback:
		c.fallbacks++
	default:
		c.answered++
	}
}

// summary describes the results of all calls.
func (c *caller) summary() string {
	text := fmt.Sprintf("%d answered by the service, %d by a fallback, %d failed", c.answered, c.fallbacks, c.failed)
	if c.breaker != nil {
		text += fmt.Sprintf(", %d rejected by the caller's own breaker, which is %s", c.rejected, c.breaker.State())
	}
	return text
}

// do sends one request if the caller's own breaker allows it. It reports whether cbproxy answered
// with a fallback.
func (c *caller) do(ctx context.Context) (fallback bool, err error) {
	if c.breaker == nil {
		return c.send(ctx)
	}
	fallback, err = c.breaker.Execute(func() (bool, error) { return c.send(ctx) })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		err = errRejected
	}
	return fallback, err
}

// send sends one request and reports whether the response is a fallback. A status of 500 or more,
// which cbproxy's own errors have, is an error.
func (c *caller) send(ctx context.Context) (fallback bool, err error) {
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
		return false, fmt.Errorf("read the response: %w", err)
	}
	if res.StatusCode >= 500 {
		return false, fmt.Errorf("the response is %s", res.Status)
	}
	return res.Header.Get("X-Fallback") != "", nil
}
