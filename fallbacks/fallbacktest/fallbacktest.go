// Package fallbacktest helps to test fallback strategies.
package fallbacktest

import (
	"errors"
	"log/slog"
	"testing"

	"cbproxy/fallbacks"
)

// Client is a client's request. It implements fallbacks.Client.
type Client struct {
	Req     fallbacks.Request
	Content []byte // the request's body
}

// Request returns a copy of c.Req.
func (c *Client) Request() *fallbacks.Request { r := c.Req; return &r }

// Method returns the method of c.Req.
func (c *Client) Method() string { return c.Req.Method }

// Accept returns the Accept field of c.Req.
func (c *Client) Accept() []string { return c.Req.Header["Accept"] }

// Body returns c.Content, or an error if it is longer than limit bytes.
func (c *Client) Body(limit int64) ([]byte, error) {
	if int64(len(c.Content)) > limit {
		return nil, errors.New("too large")
	}
	return c.Content, nil
}

// Env returns an environment for the service svc. It has no transport, and its logger discards
// all records.
func Env() fallbacks.Env {
	return fallbacks.Env{Service: "svc", Logger: slog.New(slog.DiscardHandler)}
}

// NewChain returns a chain with only the given strategy, not started. options is nil for the default
// options.
func NewChain(t testing.TB, strategy string, options any, env fallbacks.Env) *fallbacks.Chain {
	t.Helper()
	if options == nil {
		options = fallbacks.Options()[strategy]()
	}
	c, err := fallbacks.NewChain([]string{strategy}, map[string]any{strategy: options}, env, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
