package tune

import (
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"cbproxy/internal/breaker"
	"cbproxy/internal/simulate"
)

// search tries settings of one service's breaker with some calls, each once.
type search struct {
	service string
	calls   []simulate.Call
	cost    Cost
	policy  func(keys []byte) (breaker.Policy, error)
	tried   func() // called after each trial, by one goroutine at a time

	costs map[string]float64 // by the JSON of the keys
}

// tryAll returns the cost of each of some settings, infinite for keys that do not fit together.
func (s *search) tryAll(settings []keys) []float64 {
	costs := make([]float64, len(settings))
	var mu sync.Mutex // guards s.costs, and the calls of s.tried
	inParallel(len(settings), func(i int) {
		text := settings[i].json()
		mu.Lock()
		cost, known := s.costs[text]
		mu.Unlock()
		if !known {
			cost = s.try(text)
			mu.Lock()
			s.costs[text] = cost
			s.tried()
			mu.Unlock()
		}
		costs[i] = cost
	})
	return costs
}

// inParallel calls f with each number below n, on all cores, and waits until all calls have returned.
func inParallel(n int, f func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	workers.Wait()
}

func (s *search) try(keys string) float64 {
	p, err := s.policy([]byte(keys))
	if err != nil {
		return math.Inf(1)
	}
	return s.cost.of(simulate.Run(s.service, p, s.calls))
}

// recoveryKey is the key whose value decides what an opening costs, and with that the best values of all others.
const recoveryKey = "recovery_timeout"

// maxStarts is the largest number of settings from which best climbs.
const maxStarts = 4

// best returns the cheapest setting that it finds from start on. It climbs from several settings: the one in which a single change
// saves most, and some with other values of recoveryKey.
func (s *search) best(start keys, dimensions []Dimension) keys {
	starts := s.single(start, dimensions)
	i, _ := cheapest(s.tryAll(starts))
	starts = starts[i : i+1]
	for _, d := range dimensions {
		if d.Key == recoveryKey {
			for n := 0; n < len(d.Values) && len(starts) < maxStarts; n += max(len(d.Values)/(maxStarts-1), 1) {
				starts = append(starts, start.with(d.Key, d.Values[n]))
			}
		}
	}
	var found []keys
	for _, from := range starts {
		found = append(found, s.climb(from, dimensions))
	}
	i, lowest := cheapest(s.tryAll(found))
	return s.simplify(found[i], lowest)
}

// single returns start with another value of one key, for each dimension with the cheapest value.
func (s *search) single(start keys, dimensions []Dimension) (best []keys) {
	for _, d := range dimensions {
		var settings []keys
		for _, value := range d.Values {
			settings = append(settings, start.with(d.Key, value))
		}
		i, _ := cheapest(s.tryAll(settings))
		best = append(best, settings[i])
	}
	return best
}

// maxPasses limits how often climb tries each dimension.
const maxPasses = 3

// climb tries all values of one dimension after the other, until none makes the setting cheaper, and returns the cheapest setting.
func (s *search) climb(best keys, dimensions []Dimension) keys {
	lowest := s.tryAll([]keys{best})[0]
	for range maxPasses {
		before := lowest
		for _, d := range dimensions {
			settings := []keys{best.without(d.Key)} // the value of the running configuration
			for _, value := range d.Values {
				settings = append(settings, best.with(d.Key, value))
			}
			if i, cost := cheapest(s.tryAll(settings)); cost < lowest {
				best, lowest = settings[i], cost
			}
		}
		if lowest == before {
			break
		}
	}
	return best
}

// tolerance is the relative increase of the cost that is accepted for a setting with fewer changes.
const tolerance = 0.005

// simplify leaves out changes that save next to nothing from a setting with a cost.
func (s *search) simplify(setting keys, cost float64) keys {
	limit := cost * (1 + tolerance)
	for len(setting) > 0 {
		var shorter []keys
		for _, key := range slices.Sorted(maps.Keys(setting)) {
			shorter = append(shorter, setting.without(key))
		}
		i, lowest := cheapest(s.tryAll(shorter))
		if lowest > limit {
			return setting
		}
		setting = shorter[i]
	}
	return setting
}

// cheapest returns the index of the lowest cost, and that cost. Of equal ones it is the first.
func cheapest(costs []float64) (index int, cost float64) {
	cost = slices.Min(costs)
	return slices.Index(costs, cost), cost
}
