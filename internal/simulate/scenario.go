package simulate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"cbproxy/internal/events"
)

// Scenario makes calls to an upstream with a fault, for thresholds without a record. In the first and the last quarter of its time the
// upstream is healthy: it answers in 20 to 100 ms.
type Scenario struct {
	// Name is one of Scenarios.
	Name string
	// Rate is the mean number of calls per second. They arrive independently of each other.
	Rate float64
	// Minutes is the time for which calls are made.
	Minutes float64
	// Seed determines the random numbers: the same seed makes the same calls.
	Seed uint64
}

// scenarios return the result of a call, by name, while the upstream has a fault. progress grows from 0 to 1 in that time, elapsed is
// the time since it began.
var scenarios = map[string]func(r *rand.Rand, progress float64, elapsed time.Duration, c *events.Call){
	"dead": func(_ *rand.Rand, _ float64, _ time.Duration, c *events.Call) {
		fail(c, events.ErrorConnect, 0, time.Millisecond)
	},
	"slow": func(r *rand.Rand, _ float64, _ time.Duration, c *events.Call) {
		c.Duration = between(r, 4*time.Second, 12*time.Second)
	},
	"flaky": func(r *rand.Rand, _ float64, _ time.Duration, c *events.Call) {
		if r.Float64() < 0.3 {
			fail(c, events.ErrorStatus, 500, c.Duration)
		}
	},
	"brownout": func(r *rand.Rand, progress float64, _ time.Duration, c *events.Call) {
		severity := 1 - 2*max(progress-0.5, 0.5-progress) // grows to 1 and falls again
		c.Duration += time.Duration(severity * float64(between(r, 0, 10*time.Second)))
		if r.Float64() < 0.7*severity {
			fail(c, events.ErrorTimeout, 0, 10*time.Second)
		}
	},
	"flapping": func(_ *rand.Rand, _ float64, elapsed time.Duration, c *events.Call) {
		if elapsed/(10*time.Second)%2 == 0 {
			fail(c, events.ErrorReset, 0, 5*time.Millisecond)
		}
	},
}

// Scenarios returns the names of the scenarios, sorted.
func Scenarios() []string { return slices.Sorted(maps.Keys(scenarios)) }

func fail(c *events.Call, kind events.ErrorType, status int, took time.Duration) {
	c.Result, c.ErrorType, c.Status, c.Duration = events.ResultFailure, kind, status, took
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Float64()*float64(to-from))
}

// maxScenarioCalls is the largest number of calls of a scenario.
const maxScenarioCalls = 10_000_000

// Validate returns an error that names the values that are allowed.
func (s Scenario) Validate() error {
	switch {
	case scenarios[s.Name] == nil:
		return fmt.Errorf("the scenario must be one of %s, got %q", strings.Join(Scenarios(), ", "), s.Name)
	case !(s.Rate > 0 && s.Minutes > 0):
		return fmt.Errorf("rate and minutes must be above 0, got %v and %v", s.Rate, s.Minutes)
	case s.Rate*s.Minutes*60 > maxScenarioCalls:
		return fmt.Errorf("rate × minutes must be at most %d calls, got %.0f", maxScenarioCalls, s.Rate*s.Minutes*60)
	}
	return nil
}

// Calls returns the calls of a valid scenario from begin on.
func (s Scenario) Calls(begin time.Time) (calls []Call) {
	r := rand.New(rand.NewPCG(s.Seed, 0)) // #nosec G404 -- the same each time
	total := time.Duration(s.Minutes * float64(time.Minute))
	from, to := total/4, total*3/4
	for at := time.Duration(0); ; {
		at += time.Duration(r.ExpFloat64() / s.Rate * float64(time.Second))
		if at >= total {
			return calls
		}
		c := events.Call{Time: begin.Add(at), Result: events.ResultSuccess, Status: 200, Duration: between(r, 20*time.Millisecond, 100*time.Millisecond)}
		if at >= from && at < to {
			scenarios[s.Name](r, float64(at-from)/float64(to-from), at-from, &c)
		}
		calls = append(calls, NewCall(c))
	}
}
