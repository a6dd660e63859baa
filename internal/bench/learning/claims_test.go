package learning

import (
	"fmt"
	"testing"
)

// comparison is a figure with and without learning, in a number of calls.
type comparison struct{ with, without, calls int }

// compare adds up a figure of n records of each kind.
func compare(c contender, n int, of func(figures) int, all ...*kind) (sums comparison) {
	for _, k := range all {
		res := k.runAll(n, withoutLearning, c)
		sums.with += sum(res[c.name], of)
		sums.without += sum(res[withoutLearning.name], of)
		sums.calls += sum(res[c.name], calls)
	}
	return sums
}

// What is compared, for learning with any options.
func inPartialOutages(c contender) comparison {
	return compare(c, 8, passed, partial(30), partial(40), partial(50), partial(60))
}
func inHealthyRecords(c contender) comparison {
	return compare(c, 6, openings, independent, bursty, diurnal, fivePercent)
}
func inShortBursts(c contender) comparison { return compare(c, 16, refusedGood, shortBursts) }

// morePerMillion returns how many more there are with learning in a million calls.
func (c comparison) morePerMillion() float64 {
	return 1e6 * float64(c.with-c.without) / float64(c.calls)
}

func (c comparison) ratio() float64 { return float64(c.with) / float64(c.without) }

// In partial outages in which 30 to 60 % fail, at most half as many failures reach callers as without learning.
func TestLearningHalvesTheFailuresOfPartialOutages(t *testing.T) {
	t.Parallel()
	if c := inPartialOutages(withLearning); c.without < 1000 || c.ratio() > 0.5 {
		t.Errorf("%d failures reached callers, %d without learning", c.with, c.without)
	}
}

// In healthy records there is at most one opening more in a million calls.
func TestLearningOpensNoHealthyBreaker(t *testing.T) {
	t.Parallel()
	if c := inHealthyRecords(withLearning); c.calls < 1_000_000 || c.morePerMillion() > 1 {
		t.Errorf("%d openings, %d without learning, in %d calls", c.with, c.without, c.calls)
	}
}

// In bursts shorter than 20 calls no more good calls are refused than without learning.
func TestLearningRefusesNoMoreInShortBursts(t *testing.T) {
	t.Parallel()
	if c := inShortBursts(withLearning); c.without < 1000 || c.ratio() > 1 {
		t.Errorf("%d good calls were refused, %d without learning", c.with, c.without)
	}
}

// claimsTable has the figures that the tests above check.
func claimsTable() string {
	t := newTable("", "fail_max", "adaptive", "min_calls: 0")
	share := func(c comparison) string { return fmt.Sprintf("%d (%.0f %%)", c.with, 100*c.ratio()) }
	more := func(c comparison) string {
		return fmt.Sprintf("%d (%+.1f in a million calls)", c.with, c.morePerMillion())
	}
	a, b := inPartialOutages(withLearning), inPartialOutages(withoutMinimum)
	t.row("failures that reached callers in partial outages of 30 to 60 %", fmt.Sprint(a.without), share(a), share(b))
	a, b = inHealthyRecords(withLearning), inHealthyRecords(withoutMinimum)
	t.row(fmt.Sprintf("openings of healthy breakers in %d calls", a.calls), fmt.Sprint(a.without), more(a), more(b))
	a, b = inShortBursts(withLearning), inShortBursts(withoutMinimum)
	t.row("good calls refused in bursts shorter than 20 calls", fmt.Sprint(a.without), share(a), share(b))
	return t.String()
}
