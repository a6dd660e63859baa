// Package httpclient is what the strategies that send HTTP requests have in common.
package httpclient

import (
	"fmt"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// MissingURL is the validation error for an option url that is not set.
const MissingURL = "must be given: an http, https or h2c URL such as http://rag:8000"

// New returns a client of the server at u. timeout limits a request with its response, maxResponse
// the response's body. The client uses the pool of the previous strategy if that has the same
// connections; previous may be nil.
func New(u routes.Upstream, tls routes.TLS, timeout time.Duration, maxResponse routes.Size, env fallbacks.Env, previous *upstream.SharedPool) (*upstream.Client, error) {
	pool := previous
	if key := u.ConnectionKey(tls); pool == nil || pool.Key != key {
		p, err := newPool(u, tls, env)
		if err != nil {
			return nil, fmt.Errorf("create connections to %s: %w", u.Redacted(), err)
		}
		pool = upstream.NewSharedPool(p, key)
	}
	c := upstream.NewClient(u.URL, pool, timeout, int64(maxResponse))
	c.ReportLocalError = env.ReportLocalError
	return c, nil
}

func newPool(u routes.Upstream, tls routes.TLS, env fallbacks.Env) (*upstream.Pool, error) {
	t, err := env.Transport(u, tls)
	if err != nil {
		return nil, err
	}
	pool, ok := t.(*upstream.Pool)
	if !ok {
		return nil, fmt.Errorf("the transport is a %T, want a %T", t, pool)
	}
	return pool, nil
}
