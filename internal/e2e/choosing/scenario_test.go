package choosing

import (
	"fmt"
	"time"

	"cbproxy/internal/e2e/harness"
)

// scenario is an upstream and its traffic, which run with several configurations. All durations are those of the page; a run takes
// them divided by speed.
type scenario struct {
	name     string
	speed    float64
	timeout  time.Duration // of the route; 0 is the default, not divided by speed
	traffic  []phase
	row      time.Duration // of the recording
	upstream func(s *scenario) upstream
	configs  []string                         // names of configurations in the page, or defaults
	check    func(runs map[string]*run) error // the runs by configuration
}

// defaults is the configuration without any key of a breaker.
const defaults = "default"

// run is the result of a scenario with one configuration.
type run struct {
	rows    []interval
	wasted  int // answers that the upstream has worked on for clients that had given up
	changes []harness.StateChange
}

// count returns the number of calls with an outcome.
func (r *run) count(outcome string) (n int) {
	for _, i := range r.rows {
		n += i.outcomes[outcome]
	}
	return n
}

// has returns an error unless a call has had the outcome.
func (r *run) has(outcome string) error {
	if r.count(outcome) == 0 {
		return fmt.Errorf("no call has had the outcome %s", outcome)
	}
	return nil
}

// opened returns an error unless the breaker has opened for the cause.
func (r *run) opened(cause string) error {
	for _, c := range r.changes {
		if c.To == "open" && c.Cause == cause {
			return nil
		}
	}
	return fmt.Errorf("the breaker has not opened for %s, but has changed like this: %+v", cause, r.changes)
}

// faster returns the time that a run takes for d.
func (s *scenario) faster(d time.Duration) time.Duration { return time.Duration(float64(d) / s.speed) }
