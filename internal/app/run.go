package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"cbproxy/fallbacks"
	"cbproxy/internal/accesslog"
	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/internal/metrics"
	"cbproxy/internal/telemetry"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// gcPercent suits a small heap that is left behind by many short requests: collecting at
// every few megabytes would cost more than a tenth of the CPU time.
const gcPercent = 400

// TuneGC sets the collector's pace and, where the process runs in a cgroup with a memory limit, at how much of that
// it collects harder rather than be killed: nine tenths. GOGC and GOMEMLIMIT override either.
func TuneGC(logger *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if limit, err := memlimit.Set(); err != nil {
		logger.Debug("no memory limit is known", "error", err)
	} else if limit != math.MaxInt64 {
		logger.Debug("garbage is collected by a memory limit", "bytes", limit)
	}
}

const eventQueue = 1024 // events a listener may be behind

// Options are what Run needs. All fields are required.
type Options struct {
	Loader routes.Loader
	// Content is the configuration file as it was read, and Config what it was parsed into.
	Content []byte
	Config  *routes.Config
	Logger  *slog.Logger
	// Signals carries SIGHUP to reload the configuration and any other signal to stop. A signal that arrives before
	// the proxy listens takes effect once it does.
	Signals <-chan os.Signal
	// Version and Commit are the build's.
	Version, Commit string
}

// EnvironmentError is the error of an environment variable with an unusable value.
type EnvironmentError struct{ Err error }

func (e *EnvironmentError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *EnvironmentError) Unwrap() error { return e.Err }

// Run builds the proxy and serves until a signal arrives or a listener fails. An error that only the environment can
// cause is an *EnvironmentError.
func Run(o Options) error {
	config, logger := o.Config, o.Logger
	bus, instance := new(events.Bus), newInstance()
	keep, err := openKeeping(config, instance, logger)
	if err != nil {
		return err
	}
	waiting, err := openQueues(config, keep, bus, logger)
	if err != nil {
		keep.close()
		return err
	}
	waitsInMemory(config, logger)
	access := accesslog.New(instance, logger)
	defer access.Close()
	var server *proxy.Server
	meter := metrics.New(metrics.Config{
		Breakers:         func() map[string]metrics.Breaker { return breakersOf(server, keep) },
		Redis:            keep.redisMetrics,
		StoreErrors:      keep.storeErrors,
		Queues:           waiting.metrics,
		Fallbacks:        func() map[string]metrics.Fallback { return fallbacksOf(server) },
		AccessLogDropped: access.Dropped,
		Strategies:       fallbacks.Names(),
		Version:          o.Version,
		Commit:           o.Commit,
	})
	exported, err := telemetry.Start(context.Background(), telemetry.Config{Metrics: meter.Gatherer(), Version: o.Version, Instance: instance, Logger: logger})
	if err != nil {
		waiting.close(logger)
		keep.close()
		return &EnvironmentError{err}
	}
	defer farewell(exported, logger)
	server = proxy.New(proxy.Config{
		Bus: bus, Observers: meter, Breakers: keep, Access: access, Tracer: exported.Tracer(),
		Host: strategyHost{waiting.Queues}, Logger: logger, Instance: instance,
	})
	waiting.server = server
	v := &view{instance: instance, keeping: keep, queues: queueView{waiting}, reloader: &reloader{loader: o.Loader, server: server, bus: bus, metrics: meter, access: access}}
	keep.server, keep.config = server, func() *routes.Config {
		if v.current.Load() == nil {
			return config
		}
		return v.config()
	}

	ctx, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	defer keep.close()
	defer waiting.close(logger)
	defer background.Wait()
	defer stop()
	logs := bus.Subscribe(eventQueue)
	background.Go(func() { logEvents(ctx, logger, logs) })
	keep.run(ctx, bus, &background)

	defer server.Close()
	if err := v.start(config); err != nil {
		return err
	}
	background.Go(func() { waiting.Run(ctx) })
	trends := admin.NewTrends(func() map[string]admin.Totals { return totalsOf(meter) })
	background.Go(func() { trends.Run(ctx) })
	s, err := listen(ctx, config, server, admin.New(admin.Config{
		Proxy: v, Bus: bus, Trends: trends, Metrics: meter.Handler(exported.Tracer() != nil), Logger: logger,
	}), logger)
	if err != nil {
		return err
	}
	watcher := routes.Watcher{
		Path:    o.Loader.Path,
		Last:    o.Content,
		Changed: func(content []byte) { _ = v.reloadContent(content) }, // it has told the bus
		Warn:    func(err error) { logger.Warn("edits of the configuration are noticed late", "error", err) },
	}
	background.Go(func() { watcher.Watch(ctx) })
	logger.Info("cbproxy serves", "listen", s.dataListener.Addr().String(), "admin", s.adminListener.Addr().String(),
		"services", len(config.Routes), "version", o.Version, "instance", instance)
	return s.serve(v, o.Signals, logger)
}

// farewell exports what is left to export.
func farewell(exported *telemetry.Telemetry, logger *slog.Logger) {
	if err := exported.Close(context.Background()); err != nil {
		logger.Warn("the last traces or metrics were not exported", "error", err)
	}
}

// servers is the two planes.
type servers struct {
	data                        *httpserver.Server
	admin                       *http.Server
	dataListener, adminListener net.Listener
}

func listen(ctx context.Context, c *routes.Config, data *proxy.Server, adminPlane http.Handler, logger *slog.Logger) (*servers, error) {
	dataListener, err := httpserver.Listen(ctx, c.Listen)
	if err != nil {
		return nil, fmt.Errorf("data plane: %w", err)
	}
	secured, err := adminTLS(c.Admin.TLS, logger)
	var adminListener net.Listener
	if err == nil {
		adminListener, err = httpserver.Listen(ctx, c.Admin.Listen)
	}
	if err != nil {
		_ = dataListener.Close()
		return nil, fmt.Errorf("admin plane: %w", err)
	}
	return &servers{
		data:         proxy.NewHTTPServer(data, c, logger),
		dataListener: dataListener,
		admin: &http.Server{
			Handler:           adminPlane,
			TLSConfig:         secured,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		},
		adminListener: adminListener,
	}, nil
}

// serve serves both planes until a signal or a fault, and drains.
func (s *servers) serve(v *view, signals <-chan os.Signal, logger *slog.Logger) error {
	failed := make(chan error, 2)
	go func() { failed <- s.data.Serve(s.dataListener) }()
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
				_ = v.Reload() // it has told the bus
				continue
			}
			logger.Info("shutting down", "signal", sig.String())
			s.drain(v, signals, logger)
			return nil
		}
	}
}

// drain refuses new connections and gives requests in flight shutdown_timeout, all the while
// answering on the admin plane.
func (s *servers) drain(v *view, signals <-chan os.Signal, logger *slog.Logger) {
	v.draining.Store(true)
	timeout := v.config().ShutdownTimeout
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
				logger.Warn("requests still in flight after shutdown_timeout are cut", "shutdown_timeout", timeout.String())
			}
			_ = s.data.Close()  // what is left is cut
			_ = s.admin.Close() // its event streams never end by themselves
			logger.Info("stopped")
			return
		}
	}
}
