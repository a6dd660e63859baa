package fault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
)

// Limits of faults.
const (
	MaxActive   = 16               // faults in force for a service
	MaxDuration = time.Hour        // of a fault
	MaxDelay    = 10 * time.Minute // of a delay
)

// The errors of Set.
var (
	// ErrUnknown is returned if no fault that is in force has the ID.
	ErrUnknown = errors.New("no fault with this id is in force")
	// ErrTooMany is returned if a service has MaxActive faults.
	ErrTooMany = fmt.Errorf("%d faults are in force for this service, which is the limit: end one of them first", MaxActive)
	// ErrClosed is returned if the service has been removed.
	ErrClosed = errors.New("the service has been removed")
)

// Set is the faults that are in force for one service. It is safe for concurrent use.
type Set struct {
	service string
	publish func(events.Event)
	random  func() float64 // in [0, 1)

	active   atomic.Pointer[[]*Fault] // in the order of creation, and not modified; nil: none
	injected [len(events.FaultKinds)]atomic.Uint64

	mu     sync.Mutex // held while active is replaced
	closed bool       // guarded by mu
}

// NewSet returns the set of a service, without faults. publish is called with each events.FaultStarted and events.FaultEnded. random
// returns random numbers in [0, 1), and is safe for concurrent use; nil: rand.Float64.
func NewSet(service string, publish func(events.Event), random func() float64) *Set {
	if random == nil {
		random = rand.Float64
	}
	return &Set{service: service, publish: publish, random: random}
}

// lastID is the number of the latest fault of this process.
var lastID atomic.Uint64

// Start puts a fault with the settings of f into force and returns it. f must be valid; ID, Since and Until are set. The error is
// ErrTooMany or ErrClosed.
func (s *Set) Start(f events.Fault) (events.Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	active := s.list()
	switch {
	case s.closed:
		return events.Fault{}, ErrClosed
	case len(active) >= MaxActive:
		return events.Fault{}, ErrTooMany
	}
	now := time.Now()
	f.ID, f.Since, f.Until = "f"+strconv.FormatUint(lastID.Add(1), 10), now.UTC(), now.Add(time.Duration(f.Duration)).UTC()
	started := &Fault{Fault: f, set: s, ended: make(chan struct{})}
	started.timer = time.AfterFunc(time.Duration(f.Duration), func() { _, _ = s.end(f.ID, events.FaultExpired, "") })
	s.replace(append(slices.Clip(active), started))
	s.publish(events.FaultStarted{Time: f.Since, Service: s.service, Fault: f})
	return f, nil
}

// End ends a fault, as an operator has asked for, and returns it. The error is ErrUnknown. Requests that wait for the delay of the fault
// are sent at once.
func (s *Set) End(id, reason string) (events.Fault, error) {
	return s.end(id, events.FaultRemoved, reason)
}

func (s *Set) end(id string, cause events.FaultCause, reason string) (events.Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	active := s.list()
	i := slices.IndexFunc(active, func(f *Fault) bool { return f.ID == id })
	if i < 0 {
		return events.Fault{}, ErrUnknown
	}
	f := active[i]
	s.replace(slices.Delete(slices.Clone(active), i, i+1))
	s.ended(f, cause, reason)
	return f.Fault, nil
}

// Close ends all faults. There can be no others after it.
func (s *Set) Close(cause events.FaultCause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	active := s.list()
	s.closed = true
	s.replace(nil)
	for _, f := range active {
		s.ended(f, cause, "")
	}
}

// ended stops a fault that is no longer in the set, and publishes that. mu is held.
func (s *Set) ended(f *Fault, cause events.FaultCause, reason string) {
	f.timer.Stop()
	close(f.ended)
	s.publish(events.FaultEnded{Time: time.Now().UTC(), Service: s.service, Fault: f.Fault, Cause: cause, Reason: reason})
}

// replace makes active the faults in force. mu is held.
func (s *Set) replace(active []*Fault) {
	if len(active) == 0 {
		s.active.Store(nil)
		return
	}
	s.active.Store(&active)
}

func (s *Set) list() []*Fault {
	if active := s.active.Load(); active != nil {
		return *active
	}
	return nil
}

// List returns the faults in force, oldest first.
func (s *Set) List() []events.Fault {
	list := []events.Fault{}
	for _, f := range s.list() {
		list = append(list, f.Fault)
	}
	return list
}

// Status returns the state of the faults.
func (s *Set) Status() events.FaultStatus {
	status := events.FaultStatus{Active: len(s.list()), Injected: map[events.FaultKind]uint64{}}
	for i, kind := range events.FaultKinds {
		status.Injected[kind] = s.injected[i].Load()
	}
	return status
}

// Draw returns the fault for a request whose header is h: the oldest one that matches the header and whose share includes the request;
// nil if there is none. It is called once for each attempt.
func (s *Set) Draw(h http.Header) *Fault {
	active := s.active.Load()
	if active == nil {
		return nil
	}
	for _, f := range *active {
		if f.matches(h) && (f.Share >= 1 || s.random() < f.Share) {
			return f
		}
	}
	return nil
}

// matches reports whether a request with the header h is one of those that the fault may hit.
func (f *Fault) matches(h http.Header) bool {
	if f.Match == nil {
		return true
	}
	values := h[textproto.CanonicalMIMEHeaderKey(f.Match.Header)]
	return f.Match.Value == "" && len(values) > 0 || slices.Contains(values, f.Match.Value)
}
