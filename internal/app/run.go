package app

import (
	"context"
	"log/slog"
	"os"
	"sync"

	"cbproxy/fallbacks"
	"cbproxy/internal/accesslog"
	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/internal/files"
	"cbproxy/internal/metrics"
	"cbproxy/internal/telemetry"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// eventBuffer is the number of events that are buffered for a subscriber before it loses some.
const eventBuffer = 1024

// Options configures Run. All fields are required.
type Options struct {
	Loader routes.Loader
	// Content is the content of the configuration file, and Config the configuration parsed from it.
	Content []byte
	Config  *routes.Config
	Logger  *slog.Logger
	// Signals delivers SIGHUP to reload the configuration, and any other signal to stop. A signal that arrives before the proxy
	// listens is handled once it does.
	Signals <-chan os.Signal
	// Version and Commit are the build's.
	Version, Commit string
}

// TelemetryConfigError is the error of an environment variable with an invalid value.
type TelemetryConfigError struct{ Err error }

func (e *TelemetryConfigError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *TelemetryConfigError) Unwrap() error { return e.Err }

// Run builds the proxy and serves until a signal arrives or a listener fails. Components are constructed in the order of
// their dependencies and closed in the reverse order. An environment variable with an invalid value yields an
// *TelemetryConfigError.
func Run(o Options) error {
	logger, instance, bus := o.Logger, newInstance(), new(events.Bus)
	config := newActiveConfig(o.Config)
	access := accesslog.New(instance, logger)
	defer access.Close()
	meter := metrics.New(metrics.Config{Strategies: fallbacks.Names(), Version: o.Version, Commit: o.Commit})
	exported, err := telemetry.Start(context.Background(), telemetry.Config{Metrics: meter.Gatherer(), Version: o.Version, Instance: instance, Logger: logger})
	if err != nil {
		return &TelemetryConfigError{err}
	}
	defer flushTelemetry(exported, logger)
	state, err := openStateStore(config, instance, logger)
	if err != nil {
		return err
	}
	defer state.close()
	queues, err := openQueues(o.Config.DataDir, state, bus, logger)
	if err != nil {
		return err
	}
	defer queues.close(logger)
	warnVolatileQueue(o.Config, logger)
	server := proxy.New(proxy.Config{
		Bus: bus, Observers: meter, Breakers: state.breakers, Access: access, Tracer: exported.Tracer(),
		StrategyProvider: strategyProvider{queues.Queues}, Logger: logger, Instance: instance,
	})
	meter.Collect(metrics.Sources{
		Breakers:         state.serviceStatuses,
		Redis:            state.redisMetrics,
		StoreErrors:      state.storeErrors,
		Queues:           queues.metrics,
		Fallbacks:        func() map[string]metrics.Fallback { return fallbackMetrics(server) },
		AccessLogDropped: access.Dropped,
	})
	reload := &reloader{active: config, loader: o.Loader, server: server, bus: bus, metrics: meter, access: access}
	v := &adminBackend{reloader: reload, state: state, queues: queueView{queues}, instance: instance}

	ctx, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	logs := bus.Subscribe(eventBuffer)
	background.Go(func() { logEvents(ctx, logger, logs) })
	state.run(ctx, bus, &background)
	defer server.Close()
	if err := reload.start(o.Config); err != nil {
		return err
	}
	background.Go(func() { queues.Run(ctx, &queueSender{server, state.breakers}) })
	trends := admin.NewTrends(func() map[string]admin.Totals { return trendTotals(meter) })
	background.Go(func() { trends.Run(ctx) })
	s, err := listen(ctx, o.Config, server, admin.New(admin.Config{
		Backend: v, Bus: bus, Trends: trends, Metrics: meter.Handler(exported.Tracer() != nil), Logger: logger,
	}), logger)
	if err != nil {
		return err
	}
	watcher := files.Watcher{
		Path:     o.Loader.Path,
		Last:     o.Content,
		MaxBytes: routes.MaxFileBytes,
		Changed:  func(content []byte) { _ = reload.reloadContent(content) }, // the error is published
		Warn:     func(err error) { logger.Warn("config watch degraded, polling", "error", err) },
	}
	background.Go(func() { watcher.Watch(ctx) })
	logger.Info("listening", "listen", s.proxyListener.Addr().String(), "admin", s.adminListener.Addr().String(),
		"services", len(o.Config.Routes), "version", o.Version, "instance", instance)
	return s.serve(v, o.Signals, logger)
}

// flushTelemetry exports pending traces and metrics.
func flushTelemetry(exported *telemetry.Telemetry, logger *slog.Logger) {
	if err := exported.Close(context.Background()); err != nil {
		logger.Warn("cannot export the last traces or metrics", "error", err)
	}
}
