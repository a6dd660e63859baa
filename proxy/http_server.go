package proxy

import (
	"log/slog"

	"cbproxy/internal/httpserver"
	"cbproxy/routes"
)

// NewHTTPServer returns an HTTP server with s as its handler, configured by c.Server and c.Limits.
func NewHTTPServer(s *Server, c *routes.Config, logger *slog.Logger) *httpserver.Server {
	return httpserver.New(httpserver.Options{
		Handler:           s,
		Refused:           s.refused,
		Logger:            logger,
		HeaderBytes:       int64(c.Limits.HeaderBytes),
		ReadHeaderTimeout: c.Limits.ReadHeaderTimeout,
		IdleTimeout:       c.Limits.IdleTimeout,
		NetHTTPOnly:       c.Server == "net_http",
	})
}
