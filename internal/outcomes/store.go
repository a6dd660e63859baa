// Package outcomes records the result of each call to an upstream, so that thresholds can be tried on what has happened: a ring of fixed
// size for each service, in files or in memory. A call takes 16 bytes.
package outcomes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/boltfile"
	"cbproxy/internal/events"
)

// storeInterval is how often calls are stored: those of the last interval are lost if the process is killed.
const storeInterval = 500 * time.Millisecond

// Config is what is recorded.
type Config struct {
	Enabled bool
	// MaxBytes is the size of each service's ring, in bytes.
	MaxBytes int64
	// MaxAge is the age from which on a call is not read any more.
	MaxAge time.Duration
}

// slots returns the number of blocks of a ring, at least 2.
func (c Config) slots() int { return int(min(max(c.MaxBytes/blockSize, 2), maxSlots)) }

// ErrUnknownService is the error of Read for a service without a ring.
var ErrUnknownService = errors.New("no such service")

// Store has the rings of all services. It is safe for concurrent use.
type Store struct {
	dir    string // "": in memory
	logger *slog.Logger
	wake   chan struct{} // has a capacity of 1; a value makes Run store

	mu        sync.Mutex // guards the fields below
	config    Config
	recorders map[string]*recorder // by service; those of removed services stay
	rings     map[string]*ring     // of the services, while recording is enabled
	failing   map[string]bool      // services whose last calls could not be stored
	lost      uint64               // calls that rings which are closed have lost
}

// recorder passes the calls of a service to its ring.
type recorder struct{ ring atomic.Pointer[ring] }

func (r *recorder) record(c events.Call) {
	if ring := r.ring.Load(); ring != nil {
		ring.add(c)
	}
}

// New returns a store that keeps its files in dir, or everything in memory if dir is empty. It records nothing before Apply.
func New(dir string, logger *slog.Logger) *Store {
	return &Store{
		dir: dir, logger: logger, wake: make(chan struct{}, 1),
		recorders: map[string]*recorder{}, rings: map[string]*ring{}, failing: map[string]bool{},
	}
}

// Recorder returns a function that records the calls of a service, whether it has a ring yet or not. It takes about 50 ns, and waits for
// nothing but other calls of the service.
func (s *Store) Recorder(service string) func(events.Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recorder(service).record
}

// recorder returns the recorder of a service. s.mu is held.
func (s *Store) recorder(service string) *recorder {
	r := s.recorders[service]
	if r == nil {
		r = new(recorder)
		s.recorders[service] = r
	}
	return r
}

// Apply records the given services by c. A ring whose file cannot be used is kept in memory, and the reason logged.
func (s *Store) Apply(c Config, services []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resized := c.slots() != s.config.slots()
	s.config = c
	wanted := map[string]bool{}
	for _, name := range services {
		wanted[name] = c.Enabled
	}
	for name, r := range s.rings {
		if !wanted[name] || resized {
			s.recorder(name).ring.Store(nil)
			delete(s.rings, name)
			s.lost += r.lostCalls()
			if err := r.close(); err != nil {
				s.logger.Error("cannot store the outcomes of calls", "service", name, "error", err)
			}
		}
	}
	for name, want := range wanted {
		if want && s.rings[name] == nil {
			s.rings[name] = s.open(name)
			s.recorder(name).ring.Store(s.rings[name])
		}
	}
}

// open returns the ring of a service.
func (s *Store) open(service string) *ring {
	slots := s.config.slots()
	if s.dir != "" {
		o, message, err := s.openFile(service, slots)
		if err == nil {
			if message != "" {
				s.logger.Warn(message, "service", service)
			}
			return newRing(&o.file, o.slots, o.newest, s.wakeUp)
		}
		s.logger.Error("outcomes of calls are kept in memory only", "service", service, "error", err)
	}
	return newRing(&memory{slots: map[int][blockSize]byte{}}, make([]stored, slots), nil, s.wakeUp)
}

func (s *Store) openFile(service string, slots int) (*opened, string, error) {
	dir := filepath.Join(s.dir, "outcomes")
	if err := boltfile.MakeDir(dir); err != nil {
		return nil, "", err
	}
	return openFile(filepath.Join(dir, url.PathEscape(service)+".ring"), slots)
}

func (s *Store) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // Run is about to store
	}
}

// Run stores calls until ctx is done.
func (s *Store) Run(ctx context.Context) {
	ticker := time.NewTicker(storeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.wake:
		}
		for name, r := range s.current() {
			s.noteStored(name, r.store())
		}
	}
}

// current returns a copy of the rings.
func (s *Store) current() map[string]*ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.rings)
}

// noteStored logs that the calls of a service could not be stored, or can again.
func (s *Store) noteStored(service string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.failing[service]; (err != nil) == was {
		return
	}
	s.failing[service] = err != nil
	if err != nil {
		s.logger.Error("cannot store the outcomes of calls", "service", service, "error", err)
	} else {
		s.logger.Info("outcomes of calls are stored again", "service", service)
	}
}

// Read calls yield for each call that was asked for from since to until, oldest first, until it returns an error; of all services, or
// of one if service is not empty. The zero time means no limit other than the maximum age. Calls in flight are not included.
func (s *Store) Read(ctx context.Context, service string, since, until time.Time, yield func(service string, c events.Call) error) error {
	s.mu.Lock()
	rings, oldest := maps.Clone(s.rings), time.Now().Add(-s.config.MaxAge)
	_, known := s.recorders[service]
	s.mu.Unlock()
	if service != "" {
		if !known {
			return ErrUnknownService
		}
		maps.DeleteFunc(rings, func(name string, _ *ring) bool { return name != service })
	}
	if since.Before(oldest) {
		since = oldest
	}
	if until.IsZero() {
		until = timeAt(1<<timeBits - 1)
	}
	if err := merge(ctx, rings, since, until, yield); err != nil {
		return fmt.Errorf("read the outcomes of calls: %w", err)
	}
	return nil
}

// Lost returns how many calls are not in the record because the disk was too slow or failed.
func (s *Store) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.lost
	for _, r := range s.rings {
		lost += r.lostCalls()
	}
	return lost
}

// Close stores what is not stored yet and closes the files. Run must have returned.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for name, r := range s.rings {
		s.recorder(name).ring.Store(nil)
		errs = append(errs, r.close())
	}
	clear(s.rings)
	return errors.Join(errs...)
}
