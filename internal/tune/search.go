package tune

import (
	"errors"
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

	known map[string]trial // by the JSON of the keys
}

// trial is the cost of a setting.
type trial struct {
	cost float64 // infinite if the keys do not fit together
	// partial reports that the trial was given up: the cost is at least this.
	partial bool
}

// tryAll returns the cost of each of some settings, infinite for keys that do not fit together. A setting that costs more than limit is
// given up, so that its cost is only known to be above that.
func (s *search) tryAll(settings []keys, limit float64) []float64 {
	costs := make([]float64, len(settings))
	var mu sync.Mutex // guards s.known, and the calls of s.tried
	inParallel(len(settings), func(i int) {
		text := settings[i].json()
		mu.Lock()
		t, ok := s.known[text]
		mu.Unlock()
		if !ok || t.partial && t.cost <= limit {
			t = s.try(text, limit)
			mu.Lock()
			s.known[text] = t
			s.tried()
			mu.Unlock()
		}
		costs[i] = t.cost
	})
	return costs
}

var errTooDear = errors.New("the setting costs more than the limit")

func (s *search) try(keys string, limit float64) trial {
	p, err := s.policy([]byte(keys))
	if err != nil {
		return trial{cost: math.Inf(1)}
	}
	var reached float64
	r, err := simulate.RunChecked(s.service, p, s.calls, func(sofar *simulate.Result) error {
		if reached = s.cost.of(sofar); reached > limit {
			return errTooDear
		}
		return nil
	})
	if err != nil {
		return trial{reached, true}
	}
	return trial{cost: s.cost.of(r)}
}

// noLimit is no limit for the cost of a trial.
var noLimit = math.Inf(1)

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

// recoveryKey is the key whose value decides what an opening costs, and with that the best values of all others.
const recoveryKey = "recovery_timeout"

// maxStarts is the largest number of settings from which best climbs.
const maxStarts = 4

// best returns the cheapest setting that it finds from start on. It climbs from several settings: the one in which a single change
// saves most, and some with other values of recoveryKey.
func (s *search) best(start keys, dimensions []Dimension) keys {
	starts := s.single(start, dimensions)
	i, _ := cheapest(s.tryAll(starts, noLimit))
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
	i, lowest := cheapest(s.tryAll(found, noLimit))
	return s.simplify(found[i], lowest)
}

// single returns start with another value of one key, for each dimension with the cheapest value.
func (s *search) single(start keys, dimensions []Dimension) (best []keys) {
	for _, d := range dimensions {
		var settings []keys
		for _, value := range d.Values {
			settings = append(settings, start.with(d.Key, value))
		}
		i, _ := cheapest(s.tryAll(settings, noLimit))
		best = append(best, settings[i])
	}
	return best
}

// maxPasses limits how often climb tries each dimension.
const maxPasses = 3

// climb tries all values of one dimension after the other, until none makes the setting cheaper, and returns the cheapest setting.
func (s *search) climb(best keys, dimensions []Dimension) keys {
	lowest := s.tryAll([]keys{best}, noLimit)[0]
	for range maxPasses {
		before := lowest
		for _, d := range dimensions {
			settings := []keys{best.without(d.Key)} // the value of the running configuration
			for _, value := range d.Values {
				settings = append(settings, best.with(d.Key, value))
			}
			if i, cost := cheapest(s.tryAll(settings, lowest)); cost < lowest {
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
		i, lowest := cheapest(s.tryAll(shorter, limit))
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
