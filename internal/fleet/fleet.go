// Package fleet is what the instances that share a Redis tell each other: that an upstream is
// dead, until when, who probes it, and what came of that. PROTOCOL.md tells how, and what is
// guaranteed. No call to an upstream ever waits for it.
package fleet

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/store"
)

// Sharing is how an instance takes part.
type Sharing struct {
	// Enabled tells and follows; without, the instance is on its own.
	Enabled bool
	// Quorum is how many instances must have found a failure before all follow.
	Quorum int
	// TTL is how long Redis keeps a state that nobody touches; 0 is for long.
	TTL time.Duration
}

// Config is what a Fleet is built from. All fields are required.
type Config struct {
	Instance    string // the name of this one, which no other has
	Coordinator Coordinator
	// Sharing is asked again and again, so that it may change.
	Sharing func() Sharing
}

// Fleet is one instance's part in its fleet. It is safe for concurrent use.
type Fleet struct {
	config      Config
	lastContact atomicTime   // when Redis was last heard of
	tokenCount  atomic.Int64 // leases asked for

	mu      sync.Mutex         // guards what follows
	ctx     context.Context    // nil before Run
	workers map[string]*worker // by service
	running sync.WaitGroup
}

// New returns a fleet that does nothing until Run.
func New(c Config) *Fleet { return &Fleet{config: c, workers: map[string]*worker{}} }

// Join makes a service's breaker take part.
func (f *Fleet) Join(service string, b *breaker.Breaker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := newWorker(service, b, f)
	f.workers[service] = m
	if f.ctx != nil {
		f.start(m)
	}
}

// Leave ends the part of a service's breaker.
func (f *Fleet) Leave(service string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.workers[service]; m != nil {
		m.cancel()
		delete(f.workers, service)
	}
}

// Run takes part until ctx is done, and then gives back what others wait for.
func (f *Fleet) Run(ctx context.Context) {
	f.mu.Lock()
	f.ctx = ctx
	for _, m := range f.workers {
		f.start(m)
	}
	f.mu.Unlock()
	f.config.Coordinator.Listen(ctx, listener{f})
	f.running.Wait()
}

// start is called with mu held.
func (f *Fleet) start(m *worker) {
	if f.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	m.cancel = cancel
	f.running.Go(func() { m.run(ctx) })
}

// BreakerChanged is called when the breaker of a service may have changed; with "", all.
func (f *Fleet) BreakerChanged(service string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, m := range f.workers {
		if service == "" || service == name {
			m.wakeUp()
		}
	}
}

// Epoch returns the number of the last decision on a service that is known here.
func (f *Fleet) Epoch(service string) uint64 {
	if m := f.worker(service); m != nil {
		return m.epoch.Load()
	}
	return 0
}

// IsProber tells whether this instance is the one that may probe a service's upstream for the
// fleet.
func (f *Fleet) IsProber(service string) bool {
	m := f.worker(service)
	return m != nil && time.Now().Before(m.permit.Load().until)
}

func (f *Fleet) worker(service string) *worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.workers[service]
}

// syncInterval returns how often each service is compared: often enough to keep its state alive, but
// with many services less often, so that an instance never asks more than a few questions a
// second when nothing happens.
func (f *Fleet) syncInterval() time.Duration {
	f.mu.Lock()
	services := len(f.workers)
	f.mu.Unlock()
	period := syncInterval * time.Duration(1+services/100)
	if ttl := f.config.Sharing().TTL; ttl > 0 {
		period = min(period, max(ttl/3, time.Second))
	}
	return period
}

// listener hears for a fleet what is published.
type listener struct{ *Fleet }

// Connected implements store.Listener. What was published before may have been missed.
func (l listener) Connected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.workers {
		m.resync.Store(true)
		m.wakeUp()
	}
}

// Alive implements store.Listener.
func (l listener) Alive() { l.lastContact.set(time.Now()) }

// Decided implements store.Listener.
func (l listener) Decided(s store.State) {
	if m := l.worker(s.Service); m != nil {
		m.offer(s)
	}
}
