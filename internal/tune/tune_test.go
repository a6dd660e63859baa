package tune

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
	"cbproxy/internal/service"
	"cbproxy/internal/simulate"
	"cbproxy/routes"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// outages returns calls of five hours, one every ten seconds, which fail for the last 80 s of every half hour.
func outages() (calls []simulate.Call) {
	for at := time.Duration(0); at < 5*time.Hour; at += 10 * time.Second {
		c := events.Call{Time: begin.Add(at), Result: events.ResultSuccess, Duration: 50 * time.Millisecond}
		if at%(30*time.Minute) >= 30*time.Minute-80*time.Second {
			c.Result, c.ErrorType, c.Duration = events.ResultFailure, events.ErrorConnect, time.Millisecond
		}
		calls = append(calls, simulate.NewCall(c))
	}
	return calls
}

// ownAlgorithm makes a search try only some other algorithms, which takes less time.
func ownAlgorithm(o Options, others ...string) Options {
	all := o.Algorithms
	o.Algorithms = map[string][]Dimension{}
	for _, name := range append(others, o.Algorithm) {
		o.Algorithms[name] = all[name]
	}
	return o
}

// optionsFor returns options for the breaker of a service with some keys.
func optionsFor(t *testing.T, keys string, cost Cost) Options {
	t.Helper()
	l := routes.Loader{Path: "config.yaml", Algorithms: algorithm.Options()}
	config, err := l.Parse([]byte("routes: {rag_service: {upstream: 'http://127.0.0.1:1', breaker: " + keys + "}}"))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Cost: cost, Algorithm: config.Routes["rag_service"].Breaker.Algorithm, Common: DimensionsOf(routes.Breaker{}, ""),
		Algorithms: map[string][]Dimension{}, Progress: func(int, int) {},
		Policy: func(keys []byte) (breaker.Policy, error) {
			changed, err := l.WithBreaker(config, "rag_service", keys)
			if err != nil {
				return breaker.Policy{}, err
			}
			return service.PolicyOf(changed.Routes["rag_service"]), nil
		},
	}
	for name, options := range l.Algorithms {
		o.Algorithms[name] = nil
		if options != nil {
			o.Algorithms[name] = DimensionsOf(options(), name+".")
		}
	}
	return o
}

func TestSearchFindsWhatIsBetter(t *testing.T) {
	calls := outages()
	o := ownAlgorithm(optionsFor(t, "{fail_max: 10, recovery_timeout: 10m}", Cost{Passed: 1, Refused: 1}), "count")
	trials, limit := 0, 0
	o.Progress = func(done, most int) { trials, limit = done, most }
	r, err := Search("rag_service", calls, o)
	if err != nil {
		t.Fatal(err)
	}
	if !r.ClearlyBetter || len(r.Candidates) == 0 || len(r.Candidates) > 3 {
		t.Fatalf("got %d candidates, clearly better %v", len(r.Candidates), r.ClearlyBetter)
	}
	// Each outage, of eight failures, costs at least one of them.
	outages := float64(r.Judged.Failures) / 8
	if best := r.Candidates[0].Cost; r.Current.Cost != 8*outages || best < outages || best > 3*outages {
		t.Errorf("the cost is %v instead of %v", best, r.Current.Cost)
	}
	if trials == 0 || trials > limit {
		t.Errorf("progress: %d of %d trials", trials, limit)
	}
	costs := []float64{}
	_, later := split(calls)
	for _, c := range r.Candidates {
		costs = append(costs, c.Cost)
		p, err := o.Policy(c.Breaker)
		if err != nil {
			t.Fatal(err)
		}
		if again := simulate.Run("rag_service", p, later); !sameFigures(again, c.Result) || o.Cost.of(again) != c.Cost {
			t.Errorf("%s: got %+v, the simulation of the later part is %+v", c.Breaker, c.Result, again)
		}
	}
	if !slices.IsSorted(costs) {
		t.Errorf("the costs are not in order: %v", costs)
	}
	if r.Fitted.Calls+r.Judged.Calls != len(calls) || !r.Fitted.Until.Before(r.Judged.From) {
		t.Errorf("the parts are %+v and %+v", r.Fitted, r.Judged)
	}

	// What is best already is not replaced.
	best := map[string]any{"fail_max": 10, "recovery_timeout": "10m"}
	if err := json.Unmarshal(r.Candidates[0].Breaker, &best); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(best)
	if err != nil {
		t.Fatal(err)
	}
	r, err = Search("rag_service", calls, ownAlgorithm(optionsFor(t, string(text), o.Cost)))
	if err != nil || r.ClearlyBetter {
		t.Errorf("something is clearly better than the best: %+v, %v", r, err)
	}
}

func TestSearchRepeatsItself(t *testing.T) {
	calls := simulate.Scenario{Name: "brownout", Rate: 2, Minutes: 10, Seed: 1}.Calls(begin)
	texts := map[string]bool{}
	for range 2 {
		r, err := Search("rag_service", calls, optionsFor(t, "{fail_max: 5}", Cost{Passed: 2, Refused: 1}))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		texts[string(text)] = true
	}
	if len(texts) != 1 {
		t.Errorf("two searches had %d results", len(texts))
	}
}

// The cost decides: what is best if failures are dear is not what is best if refused calls are.
func TestSearchMinimizesTheCost(t *testing.T) {
	calls := simulate.Scenario{Name: "flaky", Rate: 10, Minutes: 10, Seed: 2}.Calls(begin)
	passed := map[float64]int{}
	for _, weight := range []float64{0.2, 20} {
		r, err := Search("rag_service", calls, ownAlgorithm(optionsFor(t, "{fail_max: 5, recovery_timeout: 10s}", Cost{Passed: weight, Refused: 1})))
		if err != nil {
			t.Fatal(err)
		}
		if !r.ClearlyBetter {
			t.Fatalf("nothing is better for a weight of %v", weight)
		}
		passed[weight] = r.Candidates[0].FailuresPassed
	}
	if passed[0.2] < 4*passed[20] {
		t.Errorf("failures passed by weight: %v", passed)
	}
}

func TestSearchWithoutEnoughFailuresFindsNothing(t *testing.T) {
	var calls []simulate.Call
	for i := range 1000 {
		c := events.Call{Time: begin.Add(time.Duration(i) * time.Second), Result: events.ResultSuccess}
		if i >= 500 && i < 500+minFailures-1 {
			c.Result = events.ResultFailure
		}
		calls = append(calls, simulate.NewCall(c))
	}
	r, err := Search("rag_service", calls, optionsFor(t, "{fail_max: 5}", Cost{Passed: 1, Refused: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Candidates) != 0 || r.ClearlyBetter || r.Fitted != nil || r.Judged.Calls != 1000 || r.Current.FailuresPassed != 5 {
		t.Errorf("got %+v", r)
	}
}

// The end of an outage that lasts until the end of the earlier part is not in it, so nothing is learnt about recovery.
func TestSearchKeepsRecoveryKeysWithoutARecovery(t *testing.T) {
	calls := simulate.Scenario{Name: "dead", Rate: 5, Minutes: 10, Seed: 1}.Calls(begin)
	r, err := Search("rag_service", calls, optionsFor(t, "{fail_max: 20, recovery_timeout: 30s}", Cost{Passed: 1, Refused: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Candidates) == 0 {
		t.Fatal("nothing was found")
	}
	for _, c := range r.Candidates {
		if strings.Contains(string(c.Breaker), "recovery") {
			t.Errorf("got %s", c.Breaker)
		}
	}
}

// Every value that is tried is valid in a configuration that is otherwise the default.
func TestEveryDimensionHasValidValues(t *testing.T) {
	o := optionsFor(t, "{fail_max: 5}", Cost{Passed: 1, Refused: 1})
	tried := map[string]bool{}
	for name := range o.Algorithms {
		for _, d := range slices.Concat(o.Common, o.Algorithms[name]) {
			tried[d.Key] = true
			valid := 0
			for _, value := range d.Values {
				setting := keys{"algorithm": json.RawMessage(fmt.Sprintf("%q", name))}.with(d.Key, value)
				_, err := o.Policy([]byte(setting.json()))
				if err == nil {
					valid++
				} else if strings.Contains(err.Error(), d.Key+": must be from") || strings.Contains(err.Error(), "duration") {
					t.Errorf("%s: %v", setting.json(), err)
				}
			}
			if valid < 2 && name != "expression" {
				t.Errorf("%s of %s has %d valid values in %s", d.Key, name, valid, d.Values)
			}
		}
	}
	for _, key := range []string{"fail_max", "failure_ratio", "slow_call_ratio", "window", "min_requests", "recovery_timeout",
		"recovery_backoff.multiplier", "count.calls", "throttle.success_ratio", "budget.objective"} {
		if !tried[key] {
			t.Errorf("%s is not tried, only %v", key, slices.Sorted(maps.Keys(tried)))
		}
	}
}

func TestClearlyBetterIsMoreThanChance(t *testing.T) {
	result := func(passed, refused int) *simulate.Result {
		return &simulate.Result{FailuresPassed: passed, RefusedGood: refused}
	}
	c := Cost{Passed: 1, Refused: 1}
	for _, test := range []struct {
		current, found *simulate.Result
		want           bool
	}{
		{result(100, 0), result(50, 0), true},
		{result(100, 0), result(90, 0), false},       // 10 is less than twice the deviation of 13.8
		{result(10000, 0), result(9700, 0), false},   // 3 %
		{result(10000, 0), result(9000, 0), true},    // 10 %, 7 deviations
		{result(4, 0), result(1, 0), false},          // few
		{result(0, 100), result(20, 20), true},       // refused calls count, too
		{result(100, 100), result(20, 190), false},   // one for the other
		{result(0, 0), result(0, 0), false},          // nothing to save
		{result(50, 0), result(100, 0), false},       // worse
		{result(100, 1000), result(100, 100), true},  // fewer refused
		{result(100, 1000), result(1000, 50), false}, // hardly cheaper
	} {
		current := Judgement{c.of(test.current), test.current, 0}
		if got := c.clearlyBetter(&Candidate{Judgement: Judgement{c.of(test.found), test.found, 0}}, &current); got != test.want {
			t.Errorf("%+v instead of %+v: clearly better %v", test.found, test.current, got)
		}
	}
}

// What was rejected then may have failed.
func TestClearlyBetterAssumesThatUnknownCallsFail(t *testing.T) {
	c := Cost{Passed: 1, Refused: 1}
	current := Judgement{100, &simulate.Result{FailuresPassed: 100}, 10}
	for unknown, want := range map[int]bool{0: true, 10: true, 30: true, 100: false} {
		found := &Candidate{Judgement: Judgement{20, &simulate.Result{FailuresPassed: 20}, unknown}}
		if got := c.clearlyBetter(found, &current); got != want {
			t.Errorf("%d unknown calls: clearly better %v", unknown, got)
		}
	}
}

// The record of a breaker that was open says little of what would have happened otherwise: a setting that never opens must not win only
// because the calls are missing that would have failed.
func TestSearchDoesNotTrustMissingCalls(t *testing.T) {
	calls := outages()
	in := ownAlgorithm(optionsFor(t, "{fail_max: 2, recovery_timeout: 10s}", Cost{Passed: 1, Refused: 1}))
	p, err := in.Policy([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	rejectOpen(t, calls, p)
	r, err := Search("rag_service", calls, in)
	if err != nil {
		t.Fatal(err)
	}
	if r.ClearlyBetter {
		t.Errorf("%s is clearly better: %+v instead of %+v", r.Candidates[0].Breaker, r.Candidates[0].Judgement, r.Current)
	}
}

// rejectOpen makes those of calls rejected that a breaker rejects.
func rejectOpen(t *testing.T, calls []simulate.Call, p breaker.Policy) {
	r := simulate.Run("rag_service", p, calls)
	rejected := 0
	for i, change := range r.Transitions {
		if change.To != events.Open {
			continue
		}
		for j := range calls {
			at := calls[j].Time()
			if at.After(change.Time) && (i+1 == len(r.Transitions) || at.Before(r.Transitions[i+1].Time)) {
				calls[j] = calls[j].WithResult(events.ResultRejected)
				rejected++
			}
		}
	}
	if rejected != r.Refused || rejected == 0 {
		t.Fatalf("%d calls are rejected, the breaker refuses %d", rejected, r.Refused)
	}
}

func TestCostText(t *testing.T) {
	for text, want := range map[string]Cost{
		"passed=3,refused=1": {3, 1}, "refused=0.5": {1, 0.5}, " passed=0, refused=2": {0, 2}, "passed=1e3": {1000, 1},
	} {
		c := Cost{Passed: 1, Refused: 1}
		if err := c.Set(text); err != nil || c != want {
			t.Errorf("%q: got %v, %v, want %v", text, c, err, want)
		}
	}
	for _, text := range []string{"", "3", "passed", "passed=-1", "passed=NaN", "passed=inf", "passed=0,refused=0", "missed=1", "passed=1;refused=2"} {
		c := Cost{Passed: 1, Refused: 1}
		if err := c.Set(text); err == nil || (c != Cost{Passed: 1, Refused: 1}) || math.IsNaN(c.Passed) {
			t.Errorf("%q: got %v, %v", text, c, err)
		}
	}
	c := Cost{Passed: 2.5, Refused: 1}
	if got := c.String(); got != "passed=2.5,refused=1" {
		t.Errorf("got %q", got)
	}
}
