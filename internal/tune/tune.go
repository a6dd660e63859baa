// Package tune searches thresholds of a circuit breaker with which recorded calls would have cost less. It tries them with
// internal/simulate on the earlier part of the record, and judges what it has found on the later part.
package tune

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"cbproxy/internal/breaker"
	"cbproxy/internal/simulate"
)

// Report is what a search has found, by service. It is the JSON of the command tune.
type Report struct {
	Services map[string]*ServiceReport `json:"services"`
}

// ServiceReport is what has been found for one service.
type ServiceReport struct {
	// Fitted is the part of the record on which settings were searched, Judged the later part, of which the results are; the whole
	// record if there are no candidates.
	Fitted *Part `json:"fitted"`
	Judged Part  `json:"judged"`
	// Current is the result of the running configuration.
	Current Judgement `json:"current"`
	// Candidates are at most maxCandidates other settings, the cheapest one first.
	Candidates []Candidate `json:"candidates"`
	// ClearlyBetter reports that the first candidate is cheaper than the running configuration on both parts of the record, by more
	// than what chance may explain.
	ClearlyBetter bool `json:"clearly_better"`
}

// Unknown returns the largest number of calls, of any setting, that are let through and that were not made then.
func (r *ServiceReport) Unknown() int {
	most := r.Current.Unknown
	for _, c := range r.Candidates {
		most = max(most, c.Unknown)
	}
	return most
}

// Judgement is what a setting would have done, and its cost.
type Judgement struct {
	Cost float64 `json:"cost"`
	*simulate.Result
	// Unknown is the number of calls that are let through and that were not made then. They cost nothing.
	Unknown int `json:"unknown"`
}

// Candidate is a setting of a breaker.
type Candidate struct {
	// Breaker has the keys that differ from the running configuration, in the form of the key breaker of a route.
	Breaker json.RawMessage `json:"breaker"`
	Judgement

	fitted  float64 // its cost on the part on which it was found
	policy  breaker.Policy
	changes int // the number of keys
}

// Options are what Search needs. All fields are required.
type Options struct {
	Cost Cost
	// Policy returns the policy of the service's breaker with other values of some keys, which are a JSON object in the form of the key
	// breaker of a route; an error if they do not fit together. It is called by several goroutines at a time.
	Policy func(keys []byte) (breaker.Policy, error)
	// Algorithm is the algorithm of the running configuration.
	Algorithm string
	// Common are the dimensions of all algorithms, Algorithms those of each algorithm by its name.
	Common     []Dimension
	Algorithms map[string][]Dimension
	// Progress is called after each trial with the number of trials so far, and the largest number that there may be.
	Progress func(done, limit int)
}

const (
	// minFailures is the number of failures below which nothing is searched: thresholds would fit to chance.
	minFailures = 10
	// maxCandidates is the number of settings that are returned.
	maxCandidates = 3
)

// Search searches settings for the breaker of a service, whose calls, at least one, are in the order of their times. The same calls
// always have the same result.
func Search(service string, calls []simulate.Call, o Options) (*ServiceReport, error) {
	current, err := o.Policy([]byte("{}"))
	if err != nil {
		return nil, err
	}
	r := &ServiceReport{Candidates: []Candidate{}, Judged: partOf(calls)}
	judge := func(p breaker.Policy, on []simulate.Call) Judgement {
		result := simulate.Run(service, p, on)
		return Judgement{o.Cost.of(result), result, result.Unknown()}
	}
	if r.Judged.Failures < minFailures {
		r.Current = judge(current, calls)
		return r, nil
	}
	earlier, later := split(calls)
	fitted := partOf(earlier)
	r.Fitted, r.Judged = &fitted, partOf(later)
	earlier = assumeResults(earlier)
	currentFitted := judge(current, earlier).Cost
	candidates := o.candidates(service, currentFitted, earlier)
	inParallel(len(candidates)+1, func(i int) {
		if i == len(candidates) {
			r.Current = judge(current, later)
			return
		}
		candidates[i].Judgement = judge(candidates[i].policy, later)
	})
	slices.SortStableFunc(candidates, func(a, b Candidate) int { return cmp.Compare(a.Cost, b.Cost) })
	r.Candidates = candidates
	r.ClearlyBetter = len(candidates) > 0 && o.Cost.clearlyBetter(&candidates[0], &r.Current)
	return r, nil
}

// candidates returns the cheapest settings on some calls, at most maxCandidates, all cheaper than the current cost.
func (o *Options) candidates(service string, current float64, calls []simulate.Call) []Candidate {
	common := o.Common
	if !hasRecovery(calls) {
		common = slices.DeleteFunc(slices.Clone(common), func(d Dimension) bool { return strings.HasPrefix(d.Key, "recovery_") })
	}
	done, limit := 0, o.limit()
	s := &search{service: service, calls: sample(calls, maxSample), cost: o.Cost, policy: o.Policy, known: map[string]trial{}}
	s.tried = func() { done++; o.Progress(done, limit) }
	var tried []Candidate
	for _, setting := range o.settings(s, common) {
		if p, err := o.Policy([]byte(setting.json())); err == nil {
			tried = append(tried, Candidate{Breaker: json.RawMessage(setting.json()), policy: p, changes: len(setting)})
		}
	}
	inParallel(len(tried), func(i int) {
		tried[i].Result = simulate.Run(service, tried[i].policy, calls)
		tried[i].fitted = o.Cost.of(tried[i].Result)
	})
	slices.SortStableFunc(tried, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.fitted, b.fitted), cmp.Compare(a.changes, b.changes))
	})
	var best []Candidate
	for _, c := range tried {
		same := func(other Candidate) bool { return sameFigures(c.Result, other.Result) }
		if c.fitted < current && !slices.ContainsFunc(best, same) && len(best) < maxCandidates {
			best = append(best, c)
		}
	}
	return best
}

// sameFigures reports whether two settings have done the same, whatever the causes of their transitions.
func sameFigures(a, b *simulate.Result) bool {
	return a.Openings == b.Openings && a.OpenSeconds == b.OpenSeconds && a.Refused == b.Refused &&
		a.RefusedGood == b.RefusedGood && a.FailuresPassed == b.FailuresPassed
}

// settings returns the best settings of each algorithm, and those of one changed key.
func (o *Options) settings(s *search, common []Dimension) []keys {
	own := slices.Concat(common, o.Algorithms[o.Algorithm])
	settings := append(s.single(keys{}, own), s.best(keys{}, own))
	for _, name := range slices.Sorted(maps.Keys(o.Algorithms)) {
		start := keys{"algorithm": json.RawMessage(strconv.Quote(name))}
		if name != o.Algorithm && !math.IsInf(s.tryAll([]keys{start}, noLimit)[0], 1) {
			settings = append(settings, s.best(start, slices.Concat(common, o.Algorithms[name])))
		}
	}
	return settings
}

// limit returns the largest number of trials.
func (o *Options) limit() (n int) {
	for _, dimensions := range o.Algorithms {
		for _, d := range slices.Concat(o.Common, dimensions) {
			n += (1 + maxStarts*maxPasses) * (len(d.Values) + 1)
		}
	}
	return n
}

const (
	// minSaving is the share of the cost that a setting must save to be clearly better.
	minSaving = 0.05
	// minDeviations is the number of standard deviations by which its cost must be lower.
	minDeviations = 2
)

// clearlyBetter reports whether a setting is cheaper than the current one by more than what chance may explain, even if all calls had
// failed that only the setting lets through and that were not made then.
func (c Cost) clearlyBetter(candidate *Candidate, current *Judgement) bool {
	saved := current.Cost - candidate.Cost - c.Passed*float64(max(candidate.Unknown-current.Unknown, 0))
	return saved > minSaving*current.Cost && saved > minDeviations*c.deviation(current.Result, candidate.Result)
}
