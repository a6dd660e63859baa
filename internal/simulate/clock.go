package simulate

import (
	"container/heap"
	"time"
)

// clock is a breaker.Clock whose time passes only by advance. It is used by one goroutine.
type clock struct {
	now    time.Time
	timers timers
	count  int // timers made so far
}

// Now implements breaker.Clock.
func (c *clock) Now() time.Time { return c.now }

// AfterFunc implements breaker.Clock. f is called by advance.
func (c *clock) AfterFunc(d time.Duration, f func()) (stop func()) {
	c.count++
	t := &timer{at: c.now.Add(d), number: c.count, f: f}
	heap.Push(&c.timers, t)
	return func() { t.f = nil }
}

// advance lets the time pass until at, and calls the functions of the timers that end until then, each at its time.
func (c *clock) advance(at time.Time) {
	for len(c.timers) > 0 && !c.timers[0].at.After(at) {
		t := heap.Pop(&c.timers).(*timer)
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

// timers are a heap of timers by their time.
type timers []*timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	if t[i].at.Equal(t[j].at) {
		return t[i].number < t[j].number
	}
	return t[i].at.Before(t[j].at)
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(*timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
