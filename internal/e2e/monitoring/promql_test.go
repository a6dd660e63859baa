package monitoring

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// selector is an instant or range vector selector of a query: a metric and the matchers of its labels.
type selector struct {
	metric   string
	matchers []matcher
}

// matcher is a label matcher. Its operator is =, !=, =~ or !~.
type matcher struct{ label, operator, value string }

var (
	token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[a-zA-Z_:][a-zA-Z0-9_:]*|\d[\w.]*|[=!]~|[=!<>]=|\S`)
	name  = regexp.MustCompile(`^[a-zA-Z_:]`)
)

// labelClauses are the keywords before a list of labels. keywords are other words that are not metrics. Functions need no
// list: a parenthesis follows them.
var (
	labelClauses = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	keywords     = []string{"and", "or", "unless", "bool", "offset", "sum", "min", "max", "avg", "count", "topk", "inf", "nan"}
)

// parseQuery returns the selectors of a query, and the labels by which it groups and joins. It does not check that the
// query is valid.
func parseQuery(query string) (selectors []selector, labels []string) {
	t := token.FindAllString(query, -1)
	at := func(i int) string {
		if i < len(t) {
			return t[i]
		}
		return ""
	}
	for i := 0; i < len(t); i++ {
		switch {
		case !name.MatchString(t[i]):
		case slices.Contains(labelClauses, t[i]) && at(i+1) == "(":
			for i += 2; i < len(t) && t[i] != ")"; i++ {
				if t[i] != "," {
					labels = append(labels, t[i])
				}
			}
		case at(i+1) == "(" || slices.Contains(keywords, strings.ToLower(t[i])):
		default:
			s := selector{metric: t[i]}
			if at(i+1) == "{" {
				for i += 2; i+2 < len(t) && t[i] != "}"; i++ {
					if t[i] != "," {
						s.matchers = append(s.matchers, matcher{t[i], t[i+1], strings.Trim(t[i+2], `"`)})
						i += 2
					}
				}
			}
			selectors = append(selectors, s)
		}
	}
	return selectors, labels
}

// TestParseQueryFindsSelectorsAndLabels tests parseQuery.
func TestParseQueryFindsSelectorsAndLabels(t *testing.T) {
	selectors, labels := parseQuery(`histogram_quantile(0.9, sum by (service, le) (rate(a_bucket{x="1", y=~"$z|{}"}[5m])))
  / on (job) group_left (b) (c:d:rate5m > bool 1.5e3) unless max_over_time((e unless f > 0)[5m:15s]) and g{}`)
	want := `[{a_bucket [{x = 1} {y =~ $z|{}}]} {c:d:rate5m []} {e []} {f []} {g []}] [service le job b]`
	if got := fmt.Sprint(selectors, labels); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// metricLabels holds the values of each label, by metric and label.
type metricLabels map[string]map[string][]string

var (
	sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)
	pair   = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// parseLabels returns the labels in Prometheus' text format, and those that Prometheus adds in Kubernetes.
func parseLabels(t testing.TB, text string) metricLabels {
	t.Helper()
	all := metricLabels{"up": {}}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		s := sample.FindStringSubmatch(line)
		if s == nil {
			t.Fatalf("not a sample: %s", line)
		}
		if all[s[1]] == nil {
			all[s[1]] = map[string][]string{}
		}
		for _, p := range pair.FindAllStringSubmatch(s[2], -1) {
			all[s[1]][p[1]] = append(all[s[1]][p[1]], p[2])
		}
	}
	for _, labels := range all {
		labels["job"], labels["namespace"], labels["instance"] = []string{"cbproxy"}, []string{"default"}, []string{"127.0.0.1:9901"}
	}
	return all
}

// check returns the metrics, labels and label values in a query that do not exist.
func (e metricLabels) check(query string) (problems []string) {
	selectors, labels := parseQuery(query)
	if len(selectors) == 0 && !strings.HasPrefix(query, "vector(") {
		problems = append(problems, "has no metric")
	}
	known := map[string]bool{}
	for _, s := range selectors {
		if e[s.metric] == nil {
			problems = append(problems, "there is no metric "+s.metric)
			continue
		}
		for label := range maps.Keys(e[s.metric]) {
			known[label] = true
		}
		for _, m := range s.matchers {
			if !m.matchesAny(e[s.metric][m.label]) {
				problems = append(problems, fmt.Sprintf("%s has no label %s with a value %s %q", s.metric, m.label, m.operator, m.value))
			}
		}
	}
	for _, label := range labels {
		if !known[label] {
			problems = append(problems, "no metric has a label "+label)
		}
	}
	return problems
}

// matchesAny reports whether the matcher's value matches any of values. A negated matcher is treated like its positive
// form, so that its value must exist. A variable of the dashboard matches any value.
func (m matcher) matchesAny(values []string) bool {
	pattern := m.value
	switch {
	case strings.HasPrefix(pattern, "$"):
		pattern = ".*"
	case !strings.HasSuffix(m.operator, "~"):
		pattern = regexp.QuoteMeta(pattern)
	}
	whole, err := regexp.Compile("^(?:" + pattern + ")$")
	return err == nil && slices.ContainsFunc(values, whole.MatchString)
}

// TestCheckReportsUnknownMetricsAndLabels tests metricLabels.check.
func TestCheckReportsUnknownMetricsAndLabels(t *testing.T) {
	e := parseLabels(t, "# HELP a Is.\na{x=\"1\",y=\"p\"} 1\nb 2.5e+07\n")
	for query, want := range map[string]string{
		`sum by (x, job) (a{y=~"p|q", x="$x"}) and on (instance) b`: "[]",
		`c`:             "[there is no metric c]",
		`a{x="2"}`:      `[a has no label x with a value = "2"]`,
		`a{z!="2"}`:     `[a has no label z with a value != "2"]`,
		`sum by (y)(b)`: "[no metric has a label y]",
		`1`:             "[has no metric]",
	} {
		if got := fmt.Sprint(e.check(query)); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
}
