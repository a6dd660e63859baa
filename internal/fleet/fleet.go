package fleet

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/store"
)

// Sharing are the settings that determine how an instance takes part in its fleet.
type Sharing struct {
	// Enabled turns sharing on. Without it the instance neither publishes nor follows decisions.
	Enabled bool
	// Quorum is the number of instances that must have opened their breakers by themselves before
	// all other instances open theirs.
	Quorum int
	// TTL is how long Redis keeps a state that is not updated; 0 means without limit.
	TTL time.Duration
}

// Config is the configuration of a Fleet. All fields are required.
type Config struct {
	Instance    string // the name of this instance, which must be unique
	Coordinator Coordinator
	// Sharing returns the current settings. It is called often, and they may change.
	Sharing func() Sharing
}

// Fleet shares the state of this instance's breakers with the other instances. It is safe for
// concurrent use.
type Fleet struct {
	config      Config
	lastContact atomicTime   // when Redis responded last
	tokenCount  atomic.Int64 // number of lease tokens created

	mu      sync.Mutex         // guards the fields below
	ctx     context.Context    // nil before Run
	workers map[string]*worker // by service
	running sync.WaitGroup
}

// New returns a Fleet that does nothing until Run is called.
func New(c Config) *Fleet { return &Fleet{config: c, workers: map[string]*worker{}} }

// Join starts sharing the state of a service's breaker.
func (f *Fleet) Join(service string, b *breaker.Breaker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := newWorker(service, b, f)
	f.workers[service] = w
	if f.ctx != nil {
		f.start(w)
	}
}

// Leave stops sharing the state of a service's breaker.
func (f *Fleet) Leave(service string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.workers[service]; w != nil {
		w.cancel()
		delete(f.workers, service)
	}
}

// Run shares states until ctx is done. Before it returns, it releases the leases of this instance.
func (f *Fleet) Run(ctx context.Context) {
	f.mu.Lock()
	f.ctx = ctx
	for _, w := range f.workers {
		f.start(w)
	}
	f.mu.Unlock()
	f.config.Coordinator.Listen(ctx, listener{f})
	f.running.Wait()
}

// start starts w. f.mu is held.
func (f *Fleet) start(w *worker) {
	if f.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	w.cancel = cancel
	f.running.Go(func() { w.run(ctx) })
}

// BreakerChanged must be called when the breaker of a service may have changed. "" means every
// service.
func (f *Fleet) BreakerChanged(service string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, w := range f.workers {
		if service == "" || service == name {
			w.wakeUp()
		}
	}
}

// Epoch returns the epoch of the last known decision on a service; 0 if there is none.
func (f *Fleet) Epoch(service string) uint64 {
	if w := f.worker(service); w != nil {
		return w.epoch.Load()
	}
	return 0
}

// IsProber reports whether this instance is the one that probes a service's upstream for the
// fleet.
func (f *Fleet) IsProber(service string) bool {
	w := f.worker(service)
	return w != nil && time.Now().Before(w.permit.Load().until)
}

func (f *Fleet) worker(service string) *worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.workers[service]
}

// syncInterval returns the interval between merges of one service's state. It is short enough to
// keep the state from expiring, and grows with the number of services, so that an idle instance
// sends only a few requests a second.
func (f *Fleet) syncInterval() time.Duration {
	f.mu.Lock()
	services := len(f.workers)
	f.mu.Unlock()
	interval := syncInterval * time.Duration(1+services/100)
	if ttl := f.config.Sharing().TTL; ttl > 0 {
		interval = min(interval, max(ttl/3, time.Second))
	}
	return interval
}

// listener implements store.Listener for a Fleet.
type listener struct{ *Fleet }

// Connected implements store.Listener. Decisions may have been missed before it is called.
func (l listener) Connected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.workers {
		w.resync.Store(true)
		w.wakeUp()
	}
}

// Alive implements store.Listener.
func (l listener) Alive() { l.lastContact.set(time.Now()) }

// Decided implements store.Listener.
func (l listener) Decided(s store.State) {
	if w := l.worker(s.Service); w != nil {
		w.offer(s)
	}
}
