package tune

import (
	"slices"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/simulate"
)

// Part is a part of a record.
type Part struct {
	// From and Until are the times of the first and the last call.
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	// Calls is the number of calls, Failures that of those that failed.
	Calls    int `json:"calls"`
	Failures int `json:"failures"`
}

// partOf describes calls, of which there is at least one.
func partOf(calls []simulate.Call) Part {
	return Part{From: calls[0].Time(), Until: calls[len(calls)-1].Time(), Calls: len(calls), Failures: len(failuresIn(calls))}
}

// failuresIn returns the indexes of the failures.
func failuresIn(calls []simulate.Call) (indexes []int) {
	for i := range calls {
		if calls[i].Result() == events.ResultFailure {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

// split divides a record in two at the longest time without failures between two fifths and four fifths of the failures, if possible
// between two incidents. Both parts have failures then, of which there must be at least minFailures.
func split(calls []simulate.Call) (earlier, later []simulate.Call) {
	failures := failuresIn(calls)
	n := len(failures)
	longest, at := time.Duration(-1), 0
	for i := n * 2 / 5; i < n*4/5; i++ {
		before, after := &calls[failures[i]], &calls[failures[i+1]]
		if gap := after.Time().Sub(before.Time()); gap > longest {
			middle := before.Time().Add(gap / 2)
			longest = gap
			at = failures[i] + 1 + slices.IndexFunc(calls[failures[i]+1:failures[i+1]+1], func(c simulate.Call) bool { return !c.Time().Before(middle) })
		}
	}
	return calls[:at:at], calls[at:]
}

// assumeResults returns calls in which those that were rejected have the result that they would probably have had: in the first half of
// the time between two calls that were made that of the earlier one, then that of the later one. Without it, settings that open later
// would seem better, because what was rejected then costs nothing if it is let through.
func assumeResults(calls []simulate.Call) []simulate.Call {
	made := func(c simulate.Call) bool {
		return c.Result() == events.ResultSuccess || c.Result() == events.ResultFailure
	}
	assumed := slices.Clone(calls)
	last := -1 // the last call that was made
	for i := range calls {
		if !made(calls[i]) {
			continue
		}
		for j := last + 1; j < i; j++ {
			if calls[j].Result() != events.ResultRejected {
				continue
			}
			from := i
			if last >= 0 && calls[j].Time().Sub(calls[last].Time()) < calls[i].Time().Sub(calls[j].Time()) {
				from = last
			}
			assumed[j] = calls[j].WithResult(calls[from].Result())
		}
		last = i
	}
	for j := last + 1; last >= 0 && j < len(calls); j++ {
		if calls[j].Result() == events.ResultRejected {
			assumed[j] = calls[j].WithResult(calls[last].Result())
		}
	}
	return assumed
}

const (
	// recoveryCalls is the number of calls, and recoveryTime the time, without a failure by which a recovery is recognized.
	recoveryCalls = 20
	recoveryTime  = 10 * time.Second
)

// hasRecovery reports whether the upstream has recovered from failures. If it has not, long open periods cost nothing, and a search for
// them would end at the longest one.
func hasRecovery(calls []simulate.Call) bool {
	failures := append(failuresIn(calls), len(calls))
	for i, at := range failures[:len(failures)-1] {
		last := failures[i+1] - 1 // before the next failure
		if last-at >= recoveryCalls && calls[last].Time().Sub(calls[at].Time()) >= recoveryTime {
			return true
		}
	}
	return false
}

const (
	// maxSample is the number of calls up to which each setting is tried with all calls of the earlier part.
	maxSample = 60_000
	// stretches is the number of stretches of a sample.
	stretches = 8
)

// sample returns at most size calls: stretches in which the failures are that are evenly spaced among all failures. A closed breaker
// without failures costs nothing, so calls far from them tell nothing.
func sample(calls []simulate.Call, size int) []simulate.Call {
	if len(calls) <= size {
		return calls
	}
	failures := failuresIn(calls)
	var chosen []simulate.Call
	length := size / stretches
	end := 0
	for i := range stretches {
		center := failures[(2*i+1)*len(failures)/(2*stretches)]
		from := max(center-length/2, end)
		end = min(max(from+length, end), len(calls))
		chosen = append(chosen, calls[from:end]...)
	}
	return chosen
}
