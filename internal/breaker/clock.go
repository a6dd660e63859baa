package breaker

import (
	"math/rand/v2"
	"time"

	"cbproxy/internal/events"
)

// Clock tells a breaker the time. All methods are safe for concurrent use.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f on a goroutine of the clock once d has elapsed, unless the returned function has been called before.
	AfterFunc(d time.Duration, f func()) (stop func())
}

// systemClock is the clock of the host.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) (stop func()) {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// Environment is what a breaker takes from outside of it, so that recorded calls can be replayed with the same result each time.
// Zero fields have defaults.
type Environment struct {
	// Clock is the clock; nil is that of the host.
	Clock Clock
	// Record gets each call for which the breaker is asked: one that is made when its result is reported, whether that counts or
	// not, and a rejected one at once. It is called on the goroutines of calls and must return at once; nil: calls are not recorded.
	Record func(events.Call)
	// Random returns a random number in [0, 1) and is safe for concurrent use; nil is that of math/rand/v2.
	Random func() float64
}

func (e Environment) withDefaults() Environment {
	if e.Clock == nil {
		e.Clock = systemClock{}
	}
	if e.Random == nil {
		e.Random = rand.Float64 // #nosec G404 -- shares of calls and spread ends of open periods; no secret
	}
	return e
}

// now returns the current time.
func (e *Environment) now() time.Time { return e.Clock.Now() }

// since returns the time since t, which now has returned. With the clock of the host it takes half of the time of now.
func (e *Environment) since(t time.Time) time.Duration {
	if _, ok := e.Clock.(systemClock); ok {
		return time.Since(t)
	}
	return e.now().Sub(t)
}
