package algorithm

import "sync"

// Factory makes the algorithms of one name.
type Factory struct {
	// Options returns a new options struct with its default values, which Limits.Options then is. It is decoded strictly from the
	// block of the algorithm's name. nil: the algorithm has no options.
	Options func() any
	// Used reports whether there is anything that the algorithm could do with limits. nil: there always is.
	Used func(l *Limits) bool
	// New returns an algorithm, whose Configure is called next.
	New func() Algorithm
	// Details makes an Observation complete, which takes some more time for each call.
	Details bool
	// UsesDurations reports whether the algorithm uses Observation.Slow or Duration even if Limits.SlowCallRatio is no limit. nil: it
	// does not.
	UsesDurations func(l *Limits) bool
	// ByFailures is set if successes that are not slow never open the breaker while the algorithm counts neither failures nor slow
	// calls, and if it needs no Details and is no Limiter. Such successes may be counted later, several at once, and also those
	// from before the algorithm was made, whose times are negative.
	ByFailures bool
}

var (
	factoriesMu sync.RWMutex
	factories   = map[string]Factory{} // guarded by factoriesMu
)

// Register adds an algorithm. It must be called before the configuration is loaded, usually from an init function. It panics if the
// name is in use.
func Register(name string, f Factory) {
	factoriesMu.Lock()
	defer factoriesMu.Unlock()
	if _, ok := factories[name]; ok {
		panic("algorithm: " + name + " is registered twice")
	}
	factories[name] = f
}

// Options returns, by name of the algorithm, functions that return a new options struct with its default values; nil for an
// algorithm without options.
func Options() map[string]func() any {
	factoriesMu.RLock()
	defer factoriesMu.RUnlock()
	options := make(map[string]func() any, len(factories))
	for name, f := range factories {
		options[name] = f.Options
	}
	return options
}

// factory returns the factory of the algorithm; zero if that is not registered.
func (l *Limits) factory() Factory {
	factoriesMu.RLock()
	defer factoriesMu.RUnlock()
	return factories[l.Name()]
}
