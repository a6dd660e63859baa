package monitoring

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// selector is a metric that a query asks for, and the matchers of its labels.
type selector struct {
	metric   string
	matchers []matcher
}

// matcher is a label with = or =~ (or their negations) and a value.
type matcher struct{ label, operator, value string }

var (
	tokens = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[a-zA-Z_:][a-zA-Z0-9_:]*|\d[\w.]*|[=!]~|[=!<>]=|\S`)
	name   = regexp.MustCompile(`^[a-zA-Z_:]`)
)

// lists are the words before a list of labels, and words are the others that are no metric;
// functions are known by the bracket behind them.
var (
	lists = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	words = []string{"and", "or", "unless", "bool", "offset", "sum", "min", "max", "avg", "count", "topk", "inf", "nan"}
)

// selectors returns what a query asks for, and the labels that it groups and joins by. Whether it is a
// query at all is for Prometheus to say.
func selectors(query string) (found []selector, labels []string) {
	t := tokens.FindAllString(query, -1)
	at := func(i int) string {
		if i < len(t) {
			return t[i]
		}
		return ""
	}
	for i := 0; i < len(t); i++ {
		switch {
		case !name.MatchString(t[i]):
		case slices.Contains(lists, t[i]) && at(i+1) == "(":
			for i += 2; i < len(t) && t[i] != ")"; i++ {
				if t[i] != "," {
					labels = append(labels, t[i])
				}
			}
		case at(i+1) == "(" || slices.Contains(words, strings.ToLower(t[i])):
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
			found = append(found, s)
		}
	}
	return found, labels
}

func TestParseQueryFindsSelectorsAndLabels(t *testing.T) {
	found, labels := selectors(`histogram_quantile(0.9, sum by (service, le) (rate(a_bucket{x="1", y=~"$z|{}"}[5m])))
  / on (job) group_left (b) (c:d:rate5m > bool 1.5e3) unless max_over_time((e unless f > 0)[5m:15s]) and g{}`)
	want := `[{a_bucket [{x = 1} {y =~ $z|{}}]} {c:d:rate5m []} {e []} {f []} {g []}] [service le job b]`
	if got := fmt.Sprint(found, labels); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// exposition is every metric that is exposed, with the values of its labels.
type exposition map[string]map[string][]string

var (
	sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)
	pair   = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// exposed reads the text format, and adds what Prometheus does, in Kubernetes.
func exposed(t testing.TB, text string) exposition {
	t.Helper()
	all := exposition{"up": {}}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		s := sample.FindStringSubmatch(line)
		if s == nil {
			t.Fatalf("no sample: %s", line)
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

// check tells what a query asks for in vain.
func (e exposition) check(query string) (faults []string) {
	found, labels := selectors(query)
	if len(found) == 0 && !strings.HasPrefix(query, "vector(") {
		faults = append(faults, "asks for no metric")
	}
	known := map[string]bool{}
	for _, s := range found {
		if e[s.metric] == nil {
			faults = append(faults, "there is no metric "+s.metric)
			continue
		}
		for label := range maps.Keys(e[s.metric]) {
			known[label] = true
		}
		for _, m := range s.matchers {
			if !m.fits(e[s.metric][m.label]) {
				faults = append(faults, fmt.Sprintf("nothing of %s has a %s that is %s %q", s.metric, m.label, m.operator, m.value))
			}
		}
	}
	for _, label := range labels {
		if !known[label] {
			faults = append(faults, "nothing in it has a label "+label)
		}
	}
	return faults
}

// fits tells whether any value is what the matcher names; values that the dashboard's variables choose do.
func (m matcher) fits(values []string) bool {
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

func TestCheckReportsUnknownMetricsAndLabels(t *testing.T) {
	e := exposed(t, "# HELP a Is.\na{x=\"1\",y=\"p\"} 1\nb 2.5e+07\n")
	for query, want := range map[string]string{
		`sum by (x, job) (a{y=~"p|q", x="$x"}) and on (instance) b`: "[]",
		`c`:             "[there is no metric c]",
		`a{x="2"}`:      `[nothing of a has a x that is = "2"]`,
		`a{z!="2"}`:     `[nothing of a has a z that is != "2"]`,
		`sum by (y)(b)`: "[nothing in it has a label y]",
		`1`:             "[asks for no metric]",
	} {
		if got := fmt.Sprint(e.check(query)); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
}
