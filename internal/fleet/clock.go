package fleet

import "time"

// clock maps this host's time to that of Redis, whose clock all instances share. It goes by
// elapsed time, so that a host's clock may be set without harm. The zero clock knows nothing.
type clock struct {
	local, remote time.Time // of the same moment, but for an error of half a round trip
	roundTrip     time.Duration
}

// readingLifetime is how long a better reading is preferred to a newer one that agrees with it.
const readingLifetime = time.Minute

// addReading takes a reading: Redis said remote between sent and received.
func (c *clock) addReading(sent, received, remote time.Time) {
	roundTrip := received.Sub(sent)
	middle := sent.Add(roundTrip / 2)
	agrees := c.known() && c.toRemote(middle).Sub(remote).Abs() <= (roundTrip+c.roundTrip)/2+time.Millisecond
	if agrees && roundTrip > c.roundTrip && received.Sub(c.local) < readingLifetime {
		return
	}
	*c = clock{local: middle, remote: remote, roundTrip: roundTrip}
}

func (c *clock) known() bool { return !c.local.IsZero() }

// toRemote returns what Redis's clock says at a local time.
func (c *clock) toRemote(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return c.remote.Add(t.Sub(c.local)).UTC()
}

// toLocal returns the local time at which Redis's clock says t.
func (c *clock) toLocal(t time.Time) time.Time { return c.local.Add(t.Sub(c.remote)) }
