package fallbacks

import (
	"fmt"
	"time"

	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// newClient returns a client of the server at u, with the connections of the previous strategy if they lead to the same
// server. before may be nil.
func newClient(u routes.Upstream, tls routes.TLS, timeout time.Duration, maxResponse routes.Size, env Env, before *upstream.SharedPool) (*upstream.Client, error) {
	pool := before
	if key := u.ConnectionKey(tls); before == nil || before.Key != key {
		p, err := env.Pool(u, tls)
		if err != nil {
			return nil, fmt.Errorf("make connections to %s: %w", u.Redacted(), err)
		}
		pool = upstream.NewSharedPool(p, key)
	}
	return upstream.NewClient(u.URL, pool, timeout, int64(maxResponse)), nil
}

func answerOf(res *upstream.Fetched) *Answer {
	return &Answer{Status: res.Status, Header: res.Header, Body: res.Body}
}
