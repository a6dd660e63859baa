package simulate

import "time"

// clock is a breaker.Clock whose time passes only by advance. It is used by one goroutine.
type clock struct {
	now    time.Time
	timers heap[*timer]
	count  int // timers made so far
}

// Now implements breaker.Clock.
func (c *clock) Now() time.Time { return c.now }

// AfterFunc implements breaker.Clock. f is called by advance.
func (c *clock) AfterFunc(d time.Duration, f func()) (stop func()) {
	c.count++
	t := &timer{at: c.now.Add(d), number: c.count, f: f}
	c.timers.push(t, (*timer).before)
	return func() { t.f = nil }
}

// advance lets the time pass until at, and calls the functions of the timers that end until then, each at its time.
func (c *clock) advance(at time.Time) {
	for len(c.timers) > 0 && !c.timers[0].at.After(at) {
		t := c.timers.pop((*timer).before)
		if t.f == nil {
			continue
		}
		if t.at.After(c.now) {
			c.now = t.at
		}
		t.f()
	}
	if at.After(c.now) {
		c.now = at
	}
}

// timer is a function to call at a time.
type timer struct {
	at     time.Time
	number int // orders timers of the same time
	f      func()
}

// before orders timers by their time.
func (t *timer) before(other *timer) bool {
	if t.at.Equal(other.at) {
		return t.number < other.number
	}
	return t.at.Before(other.at)
}
