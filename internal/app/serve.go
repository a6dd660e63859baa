package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"cbproxy/internal/httpserver"
	"cbproxy/internal/tlsfiles"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// servers holds the listeners and servers of the proxy and of the admin API.
type servers struct {
	data                         *httpserver.Server
	admin                        *http.Server
	proxyListener, adminListener net.Listener
}

// listen opens both listeners.
func listen(ctx context.Context, c *routes.Config, data *proxy.Server, adminHandler http.Handler, logger *slog.Logger) (*servers, error) {
	proxyListener, err := httpserver.Listen(ctx, c.Listen)
	if err != nil {
		return nil, fmt.Errorf("proxy listener: %w", err)
	}
	secured, err := adminTLS(c.Admin.TLS, logger)
	var adminListener net.Listener
	if err == nil {
		adminListener, err = httpserver.Listen(ctx, c.Admin.Listen)
	}
	if err != nil {
		_ = proxyListener.Close()
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	return &servers{
		data:          proxy.NewHTTPServer(data, c, logger),
		proxyListener: proxyListener,
		admin: &http.Server{
			Handler:           adminHandler,
			TLSConfig:         secured,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		},
		adminListener: adminListener,
	}, nil
}

// serve serves both listeners until one of them fails or a signal other than SIGHUP arrives, which drains the proxy. SIGHUP
// reloads the configuration.
func (s *servers) serve(v *adminBackend, signals <-chan os.Signal, logger *slog.Logger) error {
	failed := make(chan error, 2)
	go func() { failed <- s.data.Serve(s.proxyListener) }()
	go func() {
		if s.admin.TLSConfig != nil {
			failed <- s.admin.ServeTLS(s.adminListener, "", "")
			return
		}
		failed <- s.admin.Serve(s.adminListener)
	}()
	for {
		select {
		case err := <-failed:
			return fmt.Errorf("serve: %w", err)
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				_ = v.Reload() // the error is published
				continue
			}
			logger.Info("shutting down", "signal", sig.String())
			s.drain(v, signals, logger)
			return nil
		}
	}
}

// drain accepts no new connections and waits up to shutdown_timeout for requests in flight. The admin API is served
// meanwhile. A second signal ends the process at once, without closing anything.
func (s *servers) drain(v *adminBackend, signals <-chan os.Signal, logger *slog.Logger) {
	v.draining.Store(true)
	timeout := v.active.config().ShutdownTimeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	drained := make(chan error, 1)
	go func() {
		err := s.data.Shutdown(ctx)
		if err == nil {
			err = v.server.DrainTunnels(ctx)
		}
		drained <- err
	}()
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				continue
			}
			logger.Warn("second signal, exiting at once", "signal", sig.String())
			os.Exit(1)
		case err := <-drained:
			if errors.Is(err, context.DeadlineExceeded) {
				logger.Warn("shutdown_timeout exceeded, aborting requests in flight", "shutdown_timeout", timeout.String())
			}
			_ = s.data.Close()  // aborts the remaining requests
			_ = s.admin.Close() // Shutdown would wait for event streams, which do not end
			logger.Info("stopped")
			return
		}
	}
}

// adminTLS returns the TLS configuration of the admin listener, or nil if no certificate is configured.
func adminTLS(keys routes.AdminTLS, logger *slog.Logger) (*tls.Config, error) {
	if keys.CertFile == "" {
		return nil, nil
	}
	reloader, err := tlsfiles.New(tlsfiles.Config{CertFile: keys.CertFile, KeyFile: keys.KeyFile}, logger.With("listener", "admin"))
	if err != nil {
		return nil, err
	}
	return reloader.Server(), nil
}
