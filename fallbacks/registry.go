package fallbacks

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"

	"cbproxy/internal/events"
	"cbproxy/routes"
)

// Factory makes the strategies of one name: one for each route that uses it, and new ones at each
// reload.
type Factory[Options any] struct {
	// Defaults returns a new options struct with its default values; nil means new(Options). The
	// struct is decoded strictly from the mapping below the strategy's name in a fallback. Its
	// tags are those of routes.Config (yaml, valid, enum, most). A method
	// Validate(report func(path, message string)) may check what the tags can't express, and a method
	// DropDefaults(given func(key string) bool), which is called before it, may remove defaults that
	// do not fit to the keys that the configuration gives.
	Defaults func() *Options
	// New returns a strategy for env. It must start no background work, see Starter, and must not
	// modify options.
	New func(options *Options, env Env) (Strategy, error)
	// Inline strategies run on the request's own goroutine, share its memory, and may implement more
	// interfaces, see the package comment. Their Answer must return when its context is done, and
	// must not keep the request. All other strategies are isolated: they get a copy of the request
	// on a separate goroutine.
	Inline bool
}

// Env is the environment of a strategy.
type Env struct {
	// Service is the name of the route's service.
	Service string
	// Logger adds the service to each record.
	Logger *slog.Logger
	// Previous is the strategy of the same name in the service's previous configuration, nil if
	// there is none. It may still get requests until the new one is started and for some time
	// after that.
	Previous Strategy
	// Transport returns a new Transport for an upstream, configured as for routes. The built-in
	// strategies require it to be an *upstream.Pool (internal/upstream), see httpclient.New; other
	// strategies must use only the methods of Transport.
	Transport func(u routes.Upstream, tls routes.TLS) (Transport, error)
	// ReportLocalError counts and logs a request of a strategy that failed because this machine lacked a
	// resource. nil: such requests are not counted. The built-in strategies call it.
	ReportLocalError func(kind events.LocalError, err error)
	// Provider gives strategies access to other parts of the program. A strategy that needs one
	// defines an interface for it and asserts that Provider implements that.
	Provider any
}

// Transport sends requests to one upstream and keeps connections for reuse.
type Transport interface {
	http.RoundTripper
	// Close closes the idle connections. It does not wait.
	Close()
}

// registration is a Factory without its type parameter.
type registration struct {
	options func() any
	build   func(options any, env Env) (Strategy, error)
	inline  bool
}

var (
	registryMu sync.RWMutex
	registry   = map[string]registration{} // guarded by registryMu
)

// Register adds a strategy to the registry. It must be called before the configuration is loaded,
// usually from an init function. It panics if the name is in use.
func Register[Options any](name string, f Factory[Options]) {
	registryMu.Lock()
	defer registryMu.Unlock()
	if _, ok := registry[name]; ok {
		panic("fallbacks: strategy " + name + " is registered twice")
	}
	registry[name] = registration{
		options: func() any {
			if f.Defaults == nil {
				return new(Options)
			}
			return f.Defaults()
		},
		build: func(o any, env Env) (Strategy, error) {
			typed, ok := o.(*Options)
			if !ok {
				return nil, fmt.Errorf("options are a %T, want a %T", o, typed)
			}
			return f.New(typed, env)
		},
		inline: f.Inline,
	}
}

// Names returns the names of all registered strategies, sorted.
func Names() []string {
	registryMu.RLock()
	defer registryMu.RUnlock()
	return slices.Sorted(maps.Keys(registry))
}

// Options returns, by strategy name, functions that return a new options struct with its default
// values.
func Options() map[string]func() any {
	registryMu.RLock()
	defer registryMu.RUnlock()
	options := make(map[string]func() any, len(registry))
	for name, r := range registry {
		options[name] = r.options
	}
	return options
}

// newStep builds the strategy with the given name. options is a struct made by Options. A panic of a
// method that is called only now, and an invalid constant answer, are errors.
func newStep(name string, options any, env Env) (s step, err error) {
	registryMu.RLock()
	r, ok := registry[name]
	registryMu.RUnlock()
	if !ok {
		return step{}, fmt.Errorf("strategy %q is not registered", name)
	}
	defer func() {
		if p := recover(); p != nil {
			s, err = step{}, fmt.Errorf("build strategy %s: panic: %v", name, p)
		}
	}()
	s = step{name: name, timeLimit: DefaultTimeLimit}
	if s.strategy, err = r.build(options, env); err == nil {
		err = s.init(r.inline)
	}
	if err != nil {
		return step{}, fmt.Errorf("build strategy %s: %w", name, err)
	}
	return s, nil
}

// init sets the fields that follow from the strategy.
func (s *step) init(inline bool) error {
	if l, ok := s.strategy.(TimeLimited); ok {
		s.timeLimit = l.TimeLimit()
	}
	if b, ok := s.strategy.(BodyReader); ok {
		s.readsBody, s.bodyLimit = true, max(0, b.BodyLimit())
	}
	_, s.stores = s.strategy.(Storer)
	s.initTest()
	if !inline {
		s.isolation = newIsolation()
		return nil
	}
	_, s.nonBlocking = s.strategy.(NonBlocking)
	s.selective, _ = s.strategy.(Selective)
	c, ok := s.strategy.(Constant)
	if !ok {
		return nil
	}
	a := c.ConstantAnswer()
	if a == nil {
		return errors.New("its constant answer is nil")
	}
	var err error
	if s.constant, err = sanitizeAnswer(a, http.MethodGet); err != nil {
		return fmt.Errorf("its constant answer is invalid: %w", err)
	}
	return nil
}
