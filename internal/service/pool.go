package service

import (
	"log/slog"
	"time"

	"cbproxy/internal/tlsfiles"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// poolKey is what a route's pool is made from: pools with equal keys are interchangeable.
type poolKey struct {
	connections routes.ConnectionKey
	ping        time.Duration
}

// newPool returns a pool of connections to u. An error means that a file that tlsConfig names cannot be loaded.
func newPool(u routes.Upstream, tlsConfig routes.TLS, ping time.Duration, logger *slog.Logger) (*upstream.Pool, error) {
	c := upstream.Config{URL: u.URL, PingInterval: ping}
	if u.Scheme == "https" {
		files, err := tlsfiles.New(tlsfiles.Config(tlsConfig), logger)
		if err != nil {
			return nil, err
		}
		c.TLS = files.TLS
	}
	return upstream.New(c), nil
}
