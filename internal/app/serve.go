package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"cbproxy/internal/httpserver"
	"cbproxy/internal/listen"
	"cbproxy/internal/tlsfiles"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// listenKey is the key of the listeners of the top-level listen in the Set. Own listeners of services have other ones.
const listenKey = "listen"

// newListeners returns a set for the listeners of the data plane. Their limits are those of the first configuration, c.
func newListeners(data *proxy.Server, c *routes.Config, logger *slog.Logger) *httpserver.Set {
	return httpserver.NewSet(func(key string) *httpserver.Server {
		if key == listenKey {
			key = ""
		}
		return proxy.NewHTTPServer(data, key, c, logger)
	})
}

// servers holds the listeners and servers of the proxy and of the admin API.
type servers struct {
	data                           *httpserver.Set
	admin                          *http.Server
	proxyListeners, adminListeners []*listen.Listener
}

// openServers opens the listeners that do not change while the proxy runs.
func (p *process) openServers(ctx context.Context, adminHandler http.Handler) (*servers, error) {
	s := &servers{data: p.listeners}
	secured, err := adminTLS(p.Config.Admin.TLS, p.Logger)
	if err != nil {
		return nil, fmt.Errorf("admin.tls: %w", err)
	}
	if s.proxyListeners, err = p.open(ctx, "listen", p.Config.Listen, p.Sockets.Proxy); err != nil {
		return nil, err
	}
	for _, l := range s.proxyListeners {
		s.data.Add(listenKey, l) // and closes it at the end
	}
	if s.adminListeners, err = p.open(ctx, "admin.listen", p.Config.Admin.Listen, p.Sockets.Admin); err != nil {
		return nil, err
	}
	s.admin = &http.Server{
		Handler:           adminHandler,
		TLSConfig:         secured,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(p.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// open returns the sockets that were passed for the address at a key, or opens the address if there are none.
func (p *process) open(ctx context.Context, key, address string, passed []*listen.Listener) ([]*listen.Listener, error) {
	if len(passed) > 0 {
		p.Logger.Info("using the sockets of LISTEN_FDS", "instead_of", key, "addresses", addresses(passed))
		return passed, nil
	}
	a, err := listen.Parse(address) // was valid when the configuration was loaded
	if err != nil {
		return nil, p.Config.ListenError(key, err)
	}
	l, err := listen.Open(ctx, a)
	if err != nil {
		return nil, p.Config.ListenError(key, err)
	}
	return []*listen.Listener{l}, nil
}

// addresses returns the addresses of listeners, separated by spaces.
func addresses(listeners []*listen.Listener) string {
	all := make([]string, len(listeners))
	for i, l := range listeners {
		all[i] = l.Addr().String()
	}
	return strings.Join(all, " ")
}

// serve serves all listeners until one of them fails or a signal other than SIGHUP arrives, which drains the proxy. SIGHUP
// reloads the configuration.
func (s *servers) serve(v *adminBackend, signals <-chan os.Signal, logger *slog.Logger) error {
	failed := make(chan error, len(s.adminListeners))
	s.data.Start()
	for _, l := range s.adminListeners {
		go func() {
			if s.admin.TLSConfig != nil {
				failed <- s.admin.ServeTLS(l, "", "")
				return
			}
			failed <- s.admin.Serve(l)
		}()
	}
	for {
		select {
		case err := <-s.data.Failed():
			return err
		case err := <-failed:
			return fmt.Errorf("serve the admin API: %w", err)
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
			s.data.Close()      // aborts the remaining requests
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
