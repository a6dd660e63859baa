package fleet

import (
	"sync/atomic"
	"time"
)

// clock converts between this host's time and the time of Redis, which all instances use. It is
// based on elapsed time, so that setting the host's clock has no effect. The zero clock has no
// reading.
type clock struct {
	local, remote time.Time // of the same moment, with an error of up to half of roundTrip
	roundTrip     time.Duration
}

// readingLifetime is how long a reading is preferred to newer, less exact readings that agree with
// it.
const readingLifetime = time.Minute

// addReading adds a reading: the time of Redis was remote between sent and received.
func (c *clock) addReading(sent, received, remote time.Time) {
	roundTrip := received.Sub(sent)
	middle := sent.Add(roundTrip / 2)
	agrees := c.known() && c.toRemote(middle).Sub(remote).Abs() <= (roundTrip+c.roundTrip)/2+time.Millisecond
	if agrees && roundTrip > c.roundTrip && received.Sub(c.local) < readingLifetime {
		return
	}
	*c = clock{local: middle, remote: remote, roundTrip: roundTrip}
}

// known reports whether the clock has a reading.
func (c *clock) known() bool { return !c.local.IsZero() }

// toRemote converts a local time to Redis's; the zero time stays zero.
func (c *clock) toRemote(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return c.remote.Add(t.Sub(c.local)).UTC()
}

// toLocal converts a time of Redis to the local time.
func (c *clock) toLocal(t time.Time) time.Time { return c.local.Add(t.Sub(c.remote)) }

// atomicTime is a time for concurrent use. It is compared by elapsed time, so that setting the
// host's clock has no effect. The zero value is not set.
type atomicTime struct{ at atomic.Pointer[time.Time] }

func (a *atomicTime) set(t time.Time) { a.at.Store(&t) }

func (a *atomicTime) clear() { a.at.Store(nil) }

// since returns the time from a until now; ok is false if a is not set.
func (a *atomicTime) since(now time.Time) (d time.Duration, ok bool) {
	t := a.at.Load()
	if t == nil {
		return 0, false
	}
	return now.Sub(*t), true
}
