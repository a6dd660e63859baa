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

// In partial outages in which 30 to 60 % fail, fewer failures reach callers than without learning. Half as many is not reached, because the
// breaker takes a first probe that succeeds, as most do in such an outage, for a false alarm, and switches itself to shadow.
func TestLearningLowersTheFailuresOfPartialOutages(t *testing.T) {
	t.Parallel()
	for _, who := range []struct {
		contender
		most float64
	}{{withLearning, 0.55}, {withPatience, 0.65}} {
		if c := inPartialOutages(who.contender); c.without < 1000 || c.ratio() > who.most {
			t.Errorf("%s: %d failures reached callers, %d without learning", who.name, c.with, c.without)
		}
	}
}

// In healthy records there is at most one opening more in a million calls; with the defaults only if failures are independent.
func TestLearningOpensNoHealthyBreaker(t *testing.T) {
	t.Parallel()
	for who, c := range map[string]comparison{
		withPatience.name: inHealthyRecords(withPatience),
		withLearning.name: compare(withLearning, 6, openings, independent, diurnal, fivePercent),
	} {
		if c.calls < 1_000_000 || c.morePerMillion() > 1 {
			t.Errorf("%s: %d openings, %d without learning, in %d calls", who, c.with, c.without, c.calls)
		}
	}
}

// In bursts shorter than 20 calls no more good calls are refused than without learning; with the defaults not many more.
func TestLearningRefusesNoMoreInShortBursts(t *testing.T) {
	t.Parallel()
	for _, who := range []struct {
		contender
		most float64
	}{{withPatience, 1}, {withLearning, 1.3}} {
		if c := inShortBursts(who.contender); c.without < 1000 || c.ratio() > who.most {
			t.Errorf("%s: %d good calls were refused, %d without learning", who.name, c.with, c.without)
		}
	}
}

// claimsTable has the figures that the tests above check.
func claimsTable() string {
	t := newTable("", "fail_max", "adaptive", "adaptive, 50 calls")
	share := func(c comparison) string { return fmt.Sprintf("%d (%.0f %%)", c.with, 100*c.ratio()) }
	more := func(c comparison) string {
		return fmt.Sprintf("%d (%+.1f in a million calls)", c.with, c.morePerMillion())
	}
	a, b := inPartialOutages(withLearning), inPartialOutages(withPatience)
	t.row("failures that reached callers in partial outages of 30 to 60 %", fmt.Sprint(a.without), share(a), share(b))
	a, b = inHealthyRecords(withLearning), inHealthyRecords(withPatience)
	t.row(fmt.Sprintf("openings of healthy breakers in %d calls", a.calls), fmt.Sprint(a.without), more(a), more(b))
	a, b = inShortBursts(withLearning), inShortBursts(withPatience)
	t.row("good calls refused in bursts shorter than 20 calls", fmt.Sprint(a.without), share(a), share(b))
	return t.String()
}
