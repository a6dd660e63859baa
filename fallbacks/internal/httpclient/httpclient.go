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
	key := u.ConnectionKey(tls)
	if previous != nil && previous.Key == key {
		return upstream.NewClient(u.URL, previous, timeout, int64(maxResponse)), nil
	}
	t, err := env.Transport(u, tls)
	if err != nil {
		return nil, fmt.Errorf("create connections to %s: %w", u.Redacted(), err)
	}
	pool, ok := t.(*upstream.Pool)
	if !ok {
		return nil, fmt.Errorf("create connections to %s: the transport is a %T, want a %T", u.Redacted(), t, pool)
	}
	return upstream.NewClient(u.URL, upstream.NewSharedPool(pool, key), timeout, int64(maxResponse)), nil
}
