package app

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"

	"cbproxy/fallbacks"
	"cbproxy/internal/accesslog"
	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/internal/files"
	"cbproxy/internal/httpserver"
	"cbproxy/internal/listen"
	"cbproxy/internal/metrics"
	"cbproxy/internal/outcomes"
	"cbproxy/internal/override"
	"cbproxy/internal/telemetry"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// eventBuffer is the number of events that are buffered for a subscriber before it loses some.
const eventBuffer = 1024

// Options configures Run. All fields but Sockets are required.
type Options struct {
	Loader routes.Loader
	// Content is the content of the configuration file, and Config the configuration parsed from it.
	Content []byte
	Config  *routes.Config
	Logger  *slog.Logger
	// Signals delivers SIGHUP to reload the configuration, and any other signal to stop. A signal that arrives before the proxy
	// listens is handled once it does.
	Signals <-chan os.Signal
	// Sockets are those that a service manager has passed to the process. They replace the configured addresses.
	Sockets listen.Sockets
	// Version and Commit are the build's.
	Version, Commit string
}

// TelemetryConfigError is the error of the environment variables that configure telemetry.
type TelemetryConfigError struct{ Err error }

func (e *TelemetryConfigError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *TelemetryConfigError) Unwrap() error { return e.Err }

// Run builds the proxy and serves until a signal arrives or a listener fails. An environment variable with an invalid value yields a
// *TelemetryConfigError.
func Run(o Options) error {
	p, err := build(o)
	if err != nil {
		return err
	}
	defer p.close()
	return p.run()
}

// process holds the components of the proxy. build constructs them in the order of their dependencies:
//
//	component    started by                  stopped by
//	access log   build                       close
//	telemetry    build                       close
//	state store  build opens it; run         the end of run's context; close flushes and closes it
//	outcomes     build; run                  the end of run's context; close closes the files
//	forecasts    run                         the end of run's context
//	queues       build opens it; run         the end of run's context; close closes the files
//	server       run, by the first reload    the end of run
//	listeners    run; reloads change them    servers.serve
//	watcher      run                         the end of run's context
type process struct {
	Options
	instance  string
	bus       *events.Bus
	access    *accesslog.Log
	meter     *metrics.Metrics
	telemetry *telemetry.Telemetry
	state     *stateStore
	outcomes  *outcomes.Store
	queues    *queueService
	forecasts *forecasts
	server    *proxy.Server
	listeners *httpserver.Set // of the data plane
	reloader  *reloader

	closers []func() // what close calls, last first
}

// build constructs the components. If it returns an error, it has closed them.
func build(o Options) (_ *process, err error) {
	p := &process{Options: o, instance: newInstance(), bus: new(events.Bus)}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	config := newActiveConfig(o.Config)
	p.access = accesslog.New(p.instance, o.Logger)
	p.closers = append(p.closers, func() { p.access.Close() })
	p.meter = metrics.New(metrics.Config{Strategies: fallbacks.Names(), Version: o.Version, Commit: o.Commit})
	p.telemetry, err = telemetry.Start(context.Background(), telemetry.Config{
		Metrics: p.meter.Gatherer(), Version: o.Version, Instance: p.instance, Logger: o.Logger,
	})
	if err != nil {
		return nil, &TelemetryConfigError{err}
	}
	p.closers = append(p.closers, func() { flushTelemetry(p.telemetry, o.Logger) })
	if p.state, err = openStateStore(config, p.instance, o.Logger); err != nil {
		return nil, err
	}
	p.closers = append(p.closers, p.state.close)
	p.outcomes = outcomes.New(o.Config.DataDir, o.Logger)
	p.closers = append(p.closers, p.closeOutcomes)
	if p.queues, err = openQueues(o.Config.DataDir, p.state, p.bus, o.Logger); err != nil {
		return nil, err
	}
	p.closers = append(p.closers, func() { p.queues.close(o.Logger) })
	warnVolatileQueue(o.Config, o.Logger)
	p.server = proxy.New(proxy.Config{
		Bus: p.bus, Observers: p.meter, Breakers: p.state.breakers, Access: p.access, Tracer: p.telemetry.Tracer(),
		StrategyProvider: strategyProvider{p.queues.Queues}, RecordCalls: p.outcomes.Recorder, Logger: o.Logger, Instance: p.instance,
	})
	p.forecasts = newForecasts(p.meter, p.state.breakers)
	p.meter.Collect(metrics.Sources{
		Breakers:          p.state.serviceStatuses,
		Redis:             p.state.redisMetrics,
		StoreErrors:       p.state.storeErrors,
		Queues:            p.queues.metrics,
		Faults:            p.server.FaultStatuses,
		Fallbacks:         func() map[string]metrics.Fallback { return fallbackMetrics(p.server) },
		AccessLogDropped:  p.access.Dropped,
		OutcomesLost:      p.outcomes.Lost,
		Forecasts:         p.forecasts.all,
		Overridden:        config.overriddenKeys,
		ConcurrencyLimits: p.server.ConcurrencyLimits,
		Endpoints:         p.server.EndpointStatuses,
		Keys:              p.server.KeyCounts,
	})
	p.listeners = newListeners(p.server, o.Config, o.Logger)
	p.reloader = &reloader{
		active: config, loader: o.Loader, server: p.server, outcomes: p.outcomes, queues: p.queues, bus: p.bus, metrics: p.meter,
		access: p.access, listeners: p.listeners, logger: o.Logger,
		overridesFile: override.NewFile(o.Config.DataDir), overridesChanged: make(chan struct{}, 1),
	}
	return p, nil
}

// close closes the components in the reverse order of build.
func (p *process) close() {
	for _, c := range slices.Backward(p.closers) {
		c()
	}
}

// closeOutcomes stores the latest calls.
func (p *process) closeOutcomes() {
	if err := p.outcomes.Close(); err != nil {
		p.Logger.Error("cannot store the outcomes of calls", "error", err)
	}
}

// run applies the first configuration and serves until a signal arrives or a listener fails. All its goroutines have ended when it
// returns.
func (p *process) run() error {
	ctx, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	logs := p.bus.Subscribe(eventBuffer)
	background.Go(func() { logEvents(ctx, p.Logger, logs) })
	p.state.run(ctx, p.bus, &background)
	defer p.server.Close()
	defer p.listeners.Close()
	if err := p.reloader.start(p.Config); err != nil {
		return err
	}
	background.Go(func() { p.reloader.runOverrides(ctx) })
	background.Go(func() { p.outcomes.Run(ctx) })
	background.Go(func() { p.queues.Run(ctx, &queueSender{p.server, p.state.breakers}) })
	background.Go(func() { p.forecasts.trends.Run(ctx) })
	background.Go(func() { newAdmissionWatcher(p.state.serviceStatuses, p.bus.Publish).run(ctx) })
	backend := &adminBackend{reloader: p.reloader, state: p.state, outcomes: p.outcomes, queues: queueView{p.queues}, forecasts: p.forecasts, instance: p.instance}
	s, err := p.openServers(ctx, admin.New(admin.Config{
		Backend: backend, Bus: p.bus, Trends: p.forecasts.trends, Metrics: p.meter.Handler(p.telemetry.Tracer() != nil), Logger: p.Logger,
	}))
	if err != nil {
		return err
	}
	background.Go(func() { p.watchConfig(ctx) })
	p.Logger.Info("listening", "listen", addresses(s.proxyListeners), "admin", addresses(s.adminListeners),
		"services", len(p.Config.Routes), "version", p.Version, "instance", p.instance)
	return s.serve(backend, p.Signals, p.Logger)
}

// watchConfig reloads the configuration when its file changes, until ctx is done.
func (p *process) watchConfig(ctx context.Context) {
	watcher := files.Watcher{
		Path:     p.Loader.Path,
		Last:     p.Content,
		MaxBytes: routes.MaxFileBytes,
		Changed:  func(content []byte) { _ = p.reloader.reloadContent(content) }, // the error is published
		Warn:     func(err error) { p.Logger.Warn("config watch degraded, polling", "error", err) },
	}
	watcher.Watch(ctx)
}

// flushTelemetry exports pending traces and metrics.
func flushTelemetry(exported *telemetry.Telemetry, logger *slog.Logger) {
	if err := exported.Close(context.Background()); err != nil {
		logger.Warn("cannot export the last traces or metrics", "error", err)
	}
}
