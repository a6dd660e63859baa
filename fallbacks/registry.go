package fallbacks

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"

	"cbproxy/internal/queue"
	"cbproxy/routes"
)

// Factory makes the strategies of one name, one for each route that uses it and anew for each
// configuration.
type Factory[Options any] struct {
	// Defaults returns a new options struct with its defaults; nil stands for an empty one.
	// It is filled, strictly, from the mapping that stands under the strategy's name in a
	// fallback. Its tags are those of routes.Config (yaml, valid, enum, most), and it may have
	// a method Validate(report func(path, message string)) that reports what those can't say.
	Defaults func() *Options
	// New returns a strategy for site. It must start nothing, see Starter. options must not be
	// modified.
	New func(options *Options, site Site) (Strategy, error)
}

// Site is where a strategy works.
type Site struct {
	// Service is the route's service.
	Service string
	// Logger has the service in each line.
	Logger *slog.Logger
	// Previous is the strategy of the same name that the service has until now, nil if there
	// is none. Requests may go to it until the new one is started and for some time after.
	Previous Strategy
	// Transport returns a transport to an upstream, as routes have it. Connections are closed
	// by CloseIdleConnections.
	Transport func(u routes.Upstream, tls routes.TLS) (*http.Transport, error)
	// Host is what the process has for its strategies.
	Host Host
}

// Host is what a process has for its strategies. The zero Host has nothing.
type Host struct {
	// Queues is where the strategy queue puts requests; nil if there is none.
	Queues *queue.Queues
}

// registration is a Factory without its type.
type registration struct {
	options func() any
	build   func(options any, site Site) (Strategy, error)
	// foreign strategies are others' code: they are kept from doing harm.
	foreign bool
}

// registry is what Register fills: the one global, as strategies register themselves
// before there is anything to register them with.
var (
	registryMu sync.RWMutex
	registry   = map[string]registration{
		"cache":    register(Factory[CacheOptions]{defaultCacheOptions, newCache}),
		"http":     register(Factory[HTTPOptions]{defaultHTTPOptions, newEndpoint}),
		"queue":    register(Factory[QueueOptions]{defaultQueueOptions, newQueue}),
		"static":   register(Factory[StaticOptions]{defaultStaticOptions, newStatic}),
		"template": register(Factory[TemplateOptions]{defaultTemplateOptions, newTemplated}),
		"upstream": register(Factory[UpstreamOptions]{defaultUpstreamOptions, newUpstream}),
	}
)

func register[T any](f Factory[T]) registration {
	return registration{
		options: func() any {
			if f.Defaults == nil {
				return new(T)
			}
			return f.Defaults()
		},
		build: func(o any, site Site) (Strategy, error) {
			typed, ok := o.(*T)
			if !ok {
				return nil, fmt.Errorf("options are a %T, want a %T", o, typed)
			}
			return f.New(typed, site)
		},
	}
}

// Register makes a strategy known by name, to be called before the configuration is
// loaded. A name that is taken panics.
func Register[Options any](name string, f Factory[Options]) {
	registryMu.Lock()
	defer registryMu.Unlock()
	if _, ok := registry[name]; ok {
		panic("fallbacks: strategy " + name + " is registered twice")
	}
	r := register(f)
	r.foreign = true
	registry[name] = r
}

// Names returns the names of all strategies, sorted.
func Names() []string {
	registryMu.RLock()
	defer registryMu.RUnlock()
	return slices.Sorted(maps.Keys(registry))
}

// Options returns, by strategy name, what makes a new options struct.
func Options() map[string]func() any {
	registryMu.RLock()
	defer registryMu.RUnlock()
	options := make(map[string]func() any, len(registry))
	for name, r := range registry {
		options[name] = r.options
	}
	return options
}

// newStep builds the strategy with the given name; options is a struct that Options made.
func newStep(name string, options any, site Site) (step, error) {
	registryMu.RLock()
	r, ok := registry[name]
	registryMu.RUnlock()
	if !ok {
		return step{}, fmt.Errorf("strategy %q is not registered", name)
	}
	s, err := r.build(options, site)
	if err != nil {
		return step{}, fmt.Errorf("build strategy %s: %w", name, err)
	}
	st := step{name: name, strategy: s, limit: DefaultTimeLimit}
	if l, ok := s.(TimeLimited); ok {
		st.limit = l.TimeLimit()
	}
	_, st.instant = s.(instant)
	if r.foreign {
		st.guard = newGuard()
	}
	return st, nil
}
