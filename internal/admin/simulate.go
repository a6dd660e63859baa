package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/simulate"
)

// Limits of a simulation. The proxy serves requests meanwhile, so only one simulation runs at a time, on one core.
const (
	maxSimulatedCalls       = 1 << 20 // 24 MiB; more than a record of the default size has
	maxSimulatedTransitions = 100_000 // of each result, about 20 MiB with their JSON
	maxSimulationTime       = 15 * time.Second
	maxSimulationWait       = 4 * time.Second // for that of another request
)

// A simulation rests between slices of work, half of the time, for two reasons: a single core polls the network only when nothing is
// ready to run; and in a container the CPU time of the whole proxy may be limited to less than that of one core.
const (
	simulationSlice = time.Millisecond
	simulationRest  = time.Millisecond
)

// checkedCalls is the number of calls that are read from one check of the limits to the next.
const checkedCalls = 256

// InvalidKeysError reports all faults in keys of a route.
type InvalidKeysError struct{ Faults []string }

func (e *InvalidKeysError) Error() string { return strings.Join(e.Faults, "\n") }

// ErrUnknownService is returned if no service has the name.
var ErrUnknownService = errors.New("no such service")

// simulate responds with what a breaker with other values would have done with the recorded calls, beside that with the values in force.
func (a *api) simulate(w http.ResponseWriter, r *http.Request) {
	s, ok := readRequest(w, r, simulateExample, func(fields map[string]json.RawMessage) (simulation, []string) {
		return a.parseSimulation(fields, r.URL.Query().Get("buckets"), time.Now())
	})
	if !ok {
		return
	}
	if s.unknown {
		writeProblem(w, http.StatusNotFound, "no service is named "+strconv.Quote(s.service))
		return
	}
	if !a.beginSimulation(w, r) {
		return
	}
	report, err := a.runSimulation(r.Context(), s)
	limit := (*simulationLimitError)(nil)
	switch {
	case err == nil:
		respond(w, http.StatusOK, report)
	case errors.As(err, &limit):
		writeProblem(w, limit.status, limit.Error())
	default:
		writeProblem(w, http.StatusInternalServerError, err.Error())
	}
}

// beginSimulation waits until no other simulation runs. If that takes too long, it responds with a problem and returns false. Otherwise
// runSimulation must be called.
func (a *api) beginSimulation(w http.ResponseWriter, r *http.Request) bool {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // an expired deadline would look like a disconnected client
	wait := time.NewTimer(maxSimulationWait)
	defer wait.Stop()
	select {
	case a.simulating <- struct{}{}:
		return true
	case <-wait.C:
		w.Header().Set("Retry-After", "2")
		writeProblem(w, http.StatusTooManyRequests, "another simulation is running, and only one runs at a time")
	case <-r.Context().Done():
		writeProblem(w, http.StatusServiceUnavailable, "the client disconnected before the simulation")
	}
	return false
}

// simulationLimitError reports that a simulation exceeds a limit.
type simulationLimitError struct {
	status int
	text   string
}

func (e *simulationLimitError) Error() string {
	return e.text + "; the command cbproxy simulate has no limit"
}

// runSimulation runs a simulation within the limits until ctx is done, and lets the next one begin. The error may be a
// *simulationLimitError.
func (a *api) runSimulation(ctx context.Context, s simulation) (*simulate.Report, error) {
	defer func() { <-a.simulating }()
	ctx, cancel := context.WithTimeoutCause(ctx, maxSimulationTime, &simulationLimitError{
		http.StatusServiceUnavailable, fmt.Sprintf("the simulation takes longer than %v, try a later since", maxSimulationTime),
	})
	defer cancel()
	worked := time.Now()
	pause := func() error {
		if time.Since(worked) > simulationSlice {
			time.Sleep(simulationRest)
			worked = time.Now()
		}
		return context.Cause(ctx)
	}
	calls, err := a.readCalls(ctx, s, pause)
	if err != nil {
		return nil, err
	}
	report, err := simulate.CompareChecked(s.service, calls, s.config, s.against, &a.simulated, func(r *simulate.Result) error {
		if len(r.Transitions) > maxSimulatedTransitions {
			return &simulationLimitError{http.StatusBadRequest, fmt.Sprintf("the state would change more than %d times, try a later since", maxSimulatedTransitions)}
		}
		return pause()
	})
	if err != nil {
		return nil, err
	}
	if found := report.Services[s.service]; found != nil && s.buckets > 0 {
		found.SetBuckets(calls, s.since, s.until, s.buckets)
	}
	return report, nil
}

// readCalls returns the recorded calls of a simulation.
func (a *api) readCalls(ctx context.Context, s simulation, pause func() error) ([]simulate.Call, error) {
	newest := simulate.NewNewest(maxSimulatedCalls)
	err := a.Backend.Outcomes(ctx, s.service, s.since, s.until, func(_ string, c events.Call) error {
		if newest.Add(c); newest.Total()%checkedCalls > 0 {
			return nil
		}
		return pause()
	})
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	calls, err := newest.Calls()
	if tooMany := (*simulate.TooManyCallsError)(nil); errors.As(err, &tooMany) {
		return nil, &simulationLimitError{http.StatusBadRequest, fmt.Sprintf("the record has %d calls in this time, and at most %d can be simulated: since %s fits",
			tooMany.Calls, tooMany.Limit, tooMany.Since.Format(time.RFC3339))}
	}
	return calls, err
}
