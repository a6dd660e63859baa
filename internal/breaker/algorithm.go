package breaker

import (
	"sync"
	"time"

	"cbproxy/internal/events"
)

// Algorithm decides by the results of calls when a closed breaker opens, beside Policy.FailMax. A value serves one closed state
// of one breaker. It sees calls and the time only, so that recorded calls can be replayed. now is the time since the value was
// made; it never decreases. The methods are called with a lock held: they need no lock of their own, must return at once and
// must not call the breaker.
type Algorithm interface {
	// Configure applies a changed policy. What has been counted is kept, as far back as the new limits reach.
	Configure(now time.Duration, p *Policy)
	// Observe counts a call that has ended now. It returns why the breaker opens, "" if it stays closed.
	Observe(now time.Duration, call Observation) events.Cause
	// Counts returns what is counted as of now.
	Counts(now time.Duration) events.Counts
}

// Limiter is an Algorithm that rejects a share of the calls while the breaker is closed.
type Limiter interface {
	Algorithm
	// Admit counts a call that is asked for now, and reports whether it may be made. random is a number in [0, 1).
	Admit(now time.Duration, random float64) bool
	// RejectionRatio returns the probability with which a call would be rejected now.
	RejectionRatio(now time.Duration) float64
}

// Fallible is an Algorithm whose Observe may fail to decide. The breaker then stays closed, and counts the failure:
// events.BreakerStatus.ExpressionErrors.
type Fallible interface {
	Algorithm
	// Err returns the error of the last Observe.
	Err() error
}

// Observation is the result of one call.
type Observation struct {
	// Failed reports a failure. If neither Failed nor Abandoned is set, the call was a success.
	Failed bool
	// Slow reports a duration of at least Policy.SlowCallDuration. It is set only if the policy uses durations.
	Slow bool
	// Abandoned reports a slow call that its client cancelled: neither a success nor a failure.
	Abandoned bool

	// The fields below are set only if AlgorithmFactory.Details is.

	// Type is the type of a failure.
	Type events.ErrorType
	// Duration is the duration of the call. It is set only if the policy uses durations.
	Duration time.Duration
	// ConsecutiveFailures is the breaker's number of consecutive failures, this call included.
	ConsecutiveFailures uint32
}

// AlgorithmFactory makes the algorithms of one name.
type AlgorithmFactory struct {
	// Options returns a new options struct with its default values, which Policy.AlgorithmOptions then is. It is decoded strictly
	// from the block of the algorithm's name. nil: the algorithm has no options.
	Options func() any
	// New returns an algorithm whose Configure is called next, or nil if p sets no limit that it could use.
	New func(p *Policy) Algorithm
	// Details makes Observation complete, which takes some more time for each call.
	Details bool
	// UsesDurations reports whether the algorithm uses Observation.Slow or Duration even if Policy.SlowCallRatio is no limit. nil: it
	// does not.
	UsesDurations func(p *Policy) bool
}

// DefaultAlgorithm is the algorithm of a policy that names none.
const DefaultAlgorithm = "ratio"

var (
	algorithmsMu sync.RWMutex
	algorithms   = map[string]AlgorithmFactory{} // guarded by algorithmsMu
)

// RegisterAlgorithm adds an algorithm. It must be called before the configuration is loaded, usually from an init function. It
// panics if the name is in use.
func RegisterAlgorithm(name string, f AlgorithmFactory) {
	algorithmsMu.Lock()
	defer algorithmsMu.Unlock()
	if _, ok := algorithms[name]; ok {
		panic("breaker: algorithm " + name + " is registered twice")
	}
	algorithms[name] = f
}

// Algorithms returns, by name, functions that return a new options struct with its default values; nil for an algorithm without
// options.
func Algorithms() map[string]func() any {
	algorithmsMu.RLock()
	defer algorithmsMu.RUnlock()
	options := make(map[string]func() any, len(algorithms))
	for name, f := range algorithms {
		options[name] = f.Options
	}
	return options
}

// setDefaultOptions sets the options of the algorithm to their defaults if there are none.
func (p *Policy) setDefaultOptions() {
	if f := p.factory(); p.AlgorithmOptions == nil && f.Options != nil {
		p.AlgorithmOptions = f.Options()
	}
}

// newAlgorithm returns an algorithm for p, nil if p sets no limit for it or names one that is not registered.
func newAlgorithm(p *Policy) Algorithm {
	f := p.factory()
	if f.New == nil {
		return nil
	}
	a := f.New(p)
	if a != nil {
		a.Configure(0, p)
	}
	return a
}

// factory returns the factory of p's algorithm; zero if that is not registered.
func (p *Policy) factory() AlgorithmFactory {
	algorithmsMu.RLock()
	defer algorithmsMu.RUnlock()
	return algorithms[p.algorithm()]
}
