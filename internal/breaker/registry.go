package breaker

import (
	"maps"
	"sync"
)

// RegistryHooks are called by a Registry while it is locked, so they must not call it. Nil hooks are skipped.
type RegistryHooks struct {
	// Added is called with a new breaker before Get and All return it, for example to restore its state.
	Added func(service string, b *Breaker)
	// Removed is called when a service's breaker has been removed.
	Removed func(service string)
}

// Registry holds the breakers of the configured services. It is safe for concurrent use.
type Registry struct {
	hooks RegistryHooks

	mu       sync.Mutex
	breakers map[string]*Breaker // by service; guarded by mu
}

// NewRegistry returns an empty registry.
func NewRegistry(hooks RegistryHooks) *Registry {
	return &Registry{hooks: hooks, breakers: map[string]*Breaker{}}
}

// Add calls the hook Added and registers the breaker of a service that has none.
func (r *Registry) Add(service string, b *Breaker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hooks.Added != nil {
		r.hooks.Added(service, b)
	}
	r.breakers[service] = b
}

// Remove unregisters the breaker of a service and calls the hook Removed. It does not close the breaker.
func (r *Registry) Remove(service string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.breakers, service)
	if r.hooks.Removed != nil {
		r.hooks.Removed(service)
	}
}

// Get returns the breaker of a service, or nil if it has none.
func (r *Registry) Get(service string) *Breaker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.breakers[service]
}

// All returns a copy of the breakers by service.
func (r *Registry) All() map[string]*Breaker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.breakers)
}
