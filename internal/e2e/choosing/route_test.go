package choosing

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"cbproxy/internal/e2e/harness"
	"cbproxy/routes"
)

// route is a route of the proxy, through which a scenario runs with one configuration.
type route struct {
	*scenario
	name     string
	config   string         // its name in the page, or defaults
	keys     map[string]any // of the route
	upstream upstream
	run      *run
}

// routes returns the routes of the scenario: one for each configuration, each with an upstream and a run of its own.
func (s *scenario) routes(t *testing.T, page page) (all []*route) {
	t.Helper()
	for _, name := range s.configs {
		keys := map[string]any{}
		if name != defaults {
			if err := yaml.Unmarshal([]byte(s.scale(page.config(t, name))), &keys); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		r := &route{scenario: s, name: s.name + "_" + name, config: name, keys: keys, upstream: s.upstream(s), run: new(run)}
		server := httptest.NewServer(r.upstream)
		t.Cleanup(server.Close)
		keys["prefix"], keys["upstream"] = "/"+r.name, server.URL
		if s.timeout > 0 {
			keys["timeout"] = s.faster(s.timeout).String()
		}
		s.addDefaults(t, keys)
		all = append(all, r)
	}
	return all
}

// addDefaults adds the durations that a breaker has by default and that matter in a run, because they are divided by s.speed as well.
func (s *scenario) addDefaults(t *testing.T, keys map[string]any) {
	t.Helper()
	c, err := routes.Loader{}.Parse([]byte("routes: {svc: {prefix: /svc, upstream: 'http://127.0.0.1:1'}}"))
	if err != nil {
		t.Fatal(err)
	}
	b := c.Routes["svc"].Breaker
	merged := map[string]any{"window": s.faster(b.Window).String(), "recovery_timeout": s.faster(b.RecoveryTimeout).String()}
	if own, ok := keys["breaker"].(map[string]any); ok {
		maps.Copy(merged, own)
	}
	keys["breaker"] = merged
}

var (
	durationInYAML = regexp.MustCompile(`\b\d+(?:\.\d+)?(?:ms|s|m|h)\b`)
	rateInYAML     = regexp.MustCompile(`(min_rps: )(\d+)`)
)

// scale returns the keys of a route with all durations divided by s.speed, and all rates multiplied by it.
func (s *scenario) scale(yaml string) string {
	yaml = durationInYAML.ReplaceAllStringFunc(yaml, func(text string) string {
		d, err := time.ParseDuration(text)
		if err != nil {
			return text
		}
		return s.faster(d).String()
	})
	return rateInYAML.ReplaceAllStringFunc(yaml, func(text string) string {
		m := rateInYAML.FindStringSubmatch(text)
		rps, _ := strconv.Atoi(m[2]) // digits
		return fmt.Sprint(m[1], float64(rps)*s.speed)
	})
}

// startProxy starts a proxy with routes. The fallback answers whatever the upstream does not.
func startProxy(t *testing.T, all []*route) *harness.Proxy {
	t.Helper()
	keys := map[string]any{}
	for _, r := range all {
		keys[r.name] = r.keys
	}
	config, err := yaml.Marshal(map[string]any{
		"defaults":  map[string]any{"fallback": "spare"},
		"fallbacks": map[string]any{"spare": map[string]any{"static": map[string]any{"body": map[string]any{}}}},
		"routes":    keys,
	})
	if err != nil {
		t.Fatal(err)
	}
	return harness.StartProxy(t, harness.Options{Config: string(config), NoDataDir: true})
}

// checkMetrics checks that the metrics, from which the page reads what happens, count what the clients have seen.
func checkMetrics(t *testing.T, p *harness.Proxy, all []*route) {
	t.Helper()
	want := map[string]float64{}
	for _, r := range all {
		for _, reason := range []string{"open", "half_open_limit", "throttled", "recovering", "overload", "timeout", "connect", "reset"} {
			want[fmt.Sprintf(`enhanced_circuit_breaker_fallbacks_total{reason=%q,service=%q,strategy="static"}`, reason, r.name)] = float64(r.run.count(reason))
		}
		want[fmt.Sprintf(`cbproxy_requests_shed_total{limit="route",service=%q}`, r.name)] = float64(r.run.count("overload"))
	}
	harness.Eventually(t, "the metrics count what the clients have seen", func() bool {
		got := p.Series()
		maps.DeleteFunc(want, func(series string, n float64) bool { return got[series] == n })
		return len(want) == 0
	})
}
