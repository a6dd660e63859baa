package learning

import (
	"fmt"
	"path/filepath"
	"testing"
)

// recordsOfAKind is the number of records of each kind on the page.
const recordsOfAKind = 12

// TestPage runs all records and writes the page.
func TestPage(t *testing.T) {
	if !*update {
		t.Skip("the page is written with -update")
	}
	record := func(name string, table func() string) {
		t.Run(name, func(t *testing.T) {
			text := table()
			p := readPage(t)
			p.record(t, name, text)
			writeFile(t, pageFile, string(p))
		})
	}
	record("claims", claimsTable)
	record("kinds", kindsTable)
	t.Run("comparison", recordComparison)
	record("curve", curveTable)
	record("rates", ratesTable)
	record("detection", detectionTable)
	record("healthy", healthyTable)
}

// recordComparison runs all contenders with all kinds of records.
func recordComparison(t *testing.T) {
	all := map[*kind]results{}
	for _, k := range kinds {
		all[k] = k.runAll(recordsOfAKind, contenders...)
	}
	p := readPage(t)
	p.record(t, "failures", measureTable(all, share(passed, func(f figures) int { return f.failures })))
	p.record(t, "refused", measureTable(all, share(refusedGood, func(f figures) int { return f.good })))
	p.record(t, "openings", openingsTable(all))
	p.record(t, "delays", delayTable(all))
	p.record(t, "totals", totalsTable(all))
	writeFile(t, pageFile, string(p))
	writeFile(t, filepath.Join(filepath.Dir(pageFile), "learning-benchmark", "partial.svg"), partialChart(all).svg())
}

func kindsTable() string {
	t := newTable("record", "what happens", "calls per second")
	for _, k := range kinds {
		t.row(k.name, k.description, fmt.Sprintf("%v to %v", k.rate[0], k.rate[1]))
	}
	return t.String()
}

// share returns a part of a whole, in percent.
func share(part, whole func(figures) int) func(figures) float64 {
	return func(f figures) float64 { return 100 * float64(part(f)) / max(float64(whole(f)), 1) }
}

// names returns the names of the contenders after another column.
func names(first string) []string {
	columns := []string{first}
	for _, c := range contenders {
		columns = append(columns, c.name)
	}
	return columns
}

// measureTable has the distribution of a figure for each kind and contender.
func measureTable(all map[*kind]results, of func(figures) float64) string {
	t := newTable(names("record")...)
	for _, k := range kinds {
		cells := []string{k.name}
		for _, c := range contenders {
			d, _ := distributionOf(all[k][c.name], of)
			cells = append(cells, d.format(percentVerb(d)))
		}
		t.row(cells...)
	}
	return t.String()
}

// percentVerb formats small percentages with more digits.
func percentVerb(d distribution) string {
	if d.high < 1 {
		return "%.2f %%"
	}
	return "%.0f %%"
}

// breakers are the contenders that open.
var breakers = []contender{withoutLearning, withLearning, withoutMinimum}

func openingsTable(all map[*kind]results) string {
	t := newTable("record", "calls", "openings, fail_max", "adaptive", "min_calls: 0", "in a million calls, fail_max", "adaptive", "min_calls: 0")
	for _, k := range kinds {
		n := sum(all[k][withLearning.name], calls)
		counts, ratios := []string{}, []string{}
		for _, c := range breakers {
			o := sum(all[k][c.name], openings)
			counts, ratios = append(counts, fmt.Sprint(o)), append(ratios, fmt.Sprintf("%.1f", 1e6*float64(o)/float64(n)))
		}
		t.row(append(append([]string{k.name, fmt.Sprint(n)}, counts...), ratios...)...)
	}
	return t.String()
}

func delayTable(all map[*kind]results) string {
	t := newTable("record", "calls, fail_max", "adaptive", "min_calls: 0", "seconds, fail_max", "adaptive", "min_calls: 0")
	for _, k := range kinds {
		if k.fault == 0 {
			continue
		}
		cells := []string{k.name}
		for _, of := range []func(figures) float64{func(f figures) float64 { return f.delayCalls }, func(f figures) float64 { return f.delaySeconds }} {
			for _, c := range breakers {
				d, having := distributionOf(all[k][c.name], of)
				text := d.format("%.3g")
				if having == 0 {
					text = "never"
				} else if n := len(all[k][c.name]); having < n {
					text += fmt.Sprintf("; never in %d of %d", n-having, n)
				}
				cells = append(cells, text)
			}
		}
		t.row(cells...)
	}
	return t.String()
}

// totalsTable has sums over the records of a kind.
func totalsTable(all map[*kind]results) string {
	t := newTable(names("failures that reached callers, in all records")...)
	for _, k := range kinds {
		cells := []string{k.name}
		for _, c := range contenders {
			cells = append(cells, fmt.Sprint(sum(all[k][c.name], passed)))
		}
		t.row(cells...)
	}
	return t.String()
}

// partialChart shows the share of the failures that reach callers over the share of calls that fails.
func partialChart(all map[*kind]results) *chart {
	c := &chart{title: "failures that reach callers, of all failures of the outage (median)"}
	for _, k := range partials {
		c.labels = append(c.labels, k.name[len("partial outage, "):])
	}
	for _, who := range contenders {
		s := series{name: who.name}
		for _, k := range partials {
			d, _ := distributionOf(all[k][who.name], share(passed, func(f figures) int { return f.failures }))
			s.values = append(s.values, d.median/100)
		}
		c.series = append(c.series, s)
	}
	return c
}
