package fallbacks

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// registration is what the registry knows of a strategy.
type registration struct {
	options func() any
	build   func(options any) (Strategy, error)
}

// registry is what Register fills: the one global, as strategies register themselves
// before there is anything to register them with.
var (
	registryMu sync.RWMutex
	registry   = map[string]registration{
		"static": register(defaultStaticOptions, newStatic),
	}
)

func register[T any](options func() *T, build func(*T) (Strategy, error)) registration {
	return registration{
		options: func() any { return options() },
		build: func(o any) (Strategy, error) {
			typed, ok := o.(*T)
			if !ok {
				return nil, fmt.Errorf("options are a %T, want a %T", o, typed)
			}
			return build(typed)
		},
	}
}

// Register makes a strategy known by name, to be called before the configuration is
// loaded. options returns a new options struct with its defaults; it is filled, strictly,
// from the mapping that stands under the strategy's name in a fallback, by its yaml tags,
// and build makes a strategy of it. A name that is taken panics.
func Register[T any](name string, options func() *T, build func(*T) (Strategy, error)) {
	registryMu.Lock()
	defer registryMu.Unlock()
	if _, ok := registry[name]; ok {
		panic("fallbacks: strategy " + name + " is registered twice")
	}
	registry[name] = register(options, build)
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

// New builds the strategy with the given name; options is a struct that Options made.
func New(name string, options any) (Strategy, error) {
	registryMu.RLock()
	r, ok := registry[name]
	registryMu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("strategy %q is not registered", name)
	}
	s, err := r.build(options)
	if err != nil {
		return nil, fmt.Errorf("build strategy %s: %w", name, err)
	}
	return s, nil
}
