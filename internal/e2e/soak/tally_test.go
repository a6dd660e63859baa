package soak

import (
	"math"
	"slices"
	"sync"
	"time"
)

// tally is what the clients count.
type tally struct {
	mu       sync.Mutex
	outcomes map[string]int
	places   map[place]*counts
	longest  time.Duration

	fast times // answers of the upstream in quiet spells
	open times // static answers of an open breaker
}

// place is a service at an instance.
type place struct {
	instance int
	service  string
}

// counts are a place's.
type counts struct {
	answered  int // and so counted by the proxy
	uncertain int // perhaps
	classes   map[class]int
	fallbacks map[[2]string]int // by strategy and reason
}

func (t *tally) at(q *question) *counts {
	if t.places == nil {
		t.places, t.outcomes = map[place]*counts{}, map[string]int{}
	}
	where := place{q.instance, q.route.service}
	if t.places[where] == nil {
		t.places[where] = &counts{classes: map[class]int{}, fallbacks: map[[2]string]int{}}
	}
	return t.places[where]
}

// count takes in a request with an answer. how is "" where nobody can tell how the proxy counts it.
func (t *tally) count(q *question, how class, what string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.at(q)
	c.answered++
	c.classes[how]++
	if q.strategy != "" {
		c.fallbacks[[2]string{q.strategy, q.reason}]++
	}
	t.outcomes[what]++
	t.longest = max(t.longest, took)
}

// uncertain counts a request whose client disconnected, or whose instance exited.
func (t *tally) uncertain(q *question) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at(q).uncertain++
	if q.disturbed {
		t.outcomes["without: the instance was down"]++
	} else {
		t.outcomes["without: the client left"]++
	}
}

// total returns how many requests there were.
func (t *tally) total() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.outcomes {
		n += c
	}
	return n
}

// times collects durations. It is safe for concurrent use.
type times struct {
	mu  sync.Mutex
	all []float32 // seconds
}

func (t *times) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, float32(d.Seconds()))
}

func (t *times) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all)
}

// quantiles returns the durations at the given shares.
func (t *times) quantiles(shares ...float64) (d []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.Sort(t.all)
	for _, share := range shares {
		i := int(math.Ceil(share*float64(len(t.all)))) - 1
		if len(t.all) == 0 {
			d = append(d, 0)
			continue
		}
		d = append(d, time.Duration(float64(t.all[max(i, 0)])*float64(time.Second)))
	}
	return d
}
