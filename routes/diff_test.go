package routes_test

import (
	"encoding/json"
	"strings"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/routes"
)

func loaded(t *testing.T, text string) *routes.Config {
	t.Helper()
	l := routes.Loader{
		Path: "test.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options(), Algorithms: algorithm.Options(),
		RedisURL: func(string) error { return nil },
	}
	c, err := l.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDiff(t *testing.T) {
	const base = "routes: {svc: {prefix: /svc, upstream: 'http://h:1'}}\n"
	for name, c := range map[string]struct {
		old, next string
		want      string // key old new, and marks
	}{
		"nothing":              {base, "# a comment\n" + base, ""},
		"a default, spelt out": {base, base + "defaults: {timeout: 30}\n", ""},
		"a key":                {base, strings.Replace(base, "h:1'", "h:1', timeout: 5, breaker: {fail_max: 7}", 1), `routes.svc.timeout "30s" "5s"; routes.svc.breaker.fail_max 5 7`},
		"an automatic setting": {base, strings.Replace(base, "h:1'", "h:1', max_in_flight: auto, breaker: {slow_call_duration: auto}", 1), `routes.svc.max_in_flight 0 "auto"; routes.svc.breaker.slow_call_duration "5s" "auto"`},
		"a second endpoint":    {base, strings.Replace(base, "'http://h:1'", "[http://h:1, http://h:2]", 1), `routes.svc.upstream "http://h:1" ["http://h:1","http://h:2"]`},
		"addresses of a name":  {base, strings.Replace(base, "http://", "dns+http://", 1), `routes.svc.upstream "http://h:1" "dns+http://h:1"`},
		"a list of one":        {base, strings.Replace(base, "'http://h:1'", "[http://h:1]", 1), ""},
		"keys of endpoints": {base, strings.Replace(base, "h:1'", "h:1', balance: {eject: {fail_max: 0}}, hedge: {after: 1}, breaker: {by: {header: X-Tenant}}", 1),
			`routes.svc.balance.eject.fail_max 5 0; routes.svc.hedge.after "0s" "1s"; routes.svc.breaker.by.header "" "X-Tenant"`},
		"an inherited key": {base, base + "defaults: {timeout: 5}\n", `routes.svc.timeout "30s" "5s"`},
		"a route":          {base, strings.Replace(base, "svc:", "new:", 1), "routes.new + ; routes.svc -"},
		"a secret": {base + "redis: {url: 'redis://:one@h/0'}\n", base + "redis: {url: 'redis://:two@h/0'}\n",
			`redis.url "redis://redacted@h/0" "redis://redacted@h/0" hidden restart`},
		"a key for a restart": {base, base + "admin: {listen: '127.0.0.1:1', tls: {cert_file: '', key_file: ''}}\n", `admin.listen "127.0.0.1:9901" "127.0.0.1:1" restart`},
		"a fallback":          {base, base + "fallbacks: {svc: {static: {body: {a: 1}}}}\n", "routes.svc.fallback \"\" \"svc\"; fallbacks.svc + "},
		"a body, whole": {base + "fallbacks: {svc: {static: {body: {a: 1, b: 2}}}}\n", base + "fallbacks: {svc: {static: {body: {a: 1, b: 3}}}}\n",
			`fallbacks.svc.static.body {"a":1,"b":2} {"a":1,"b":3}`},
		"a strategy": {base + "fallbacks: {svc: {try: [static], static: {body: 1}}}\n", base + "fallbacks: {svc: {try: [cache, static], static: {body: 1}}}\n",
			`fallbacks.svc.try ["static"] ["cache","static"]; fallbacks.svc.cache + `},
		"an algorithm with options": {base, strings.Replace(base, "h:1'", "h:1', breaker: {algorithm: count}", 1),
			`routes.svc.breaker.algorithm "ratio" "count"; routes.svc.breaker.count + `},
		"an algorithm without options": {strings.Replace(base, "h:1'", "h:1', breaker: {algorithm: count}", 1), base,
			`routes.svc.breaker.algorithm "count" "ratio"; routes.svc.breaker.count -`},
		"another algorithm": {strings.Replace(base, "h:1'", "h:1', breaker: {algorithm: count}", 1), strings.Replace(base, "h:1'", "h:1', breaker: {algorithm: throttle}", 1),
			`routes.svc.breaker.algorithm "count" "throttle"; routes.svc.breaker.count -; routes.svc.breaker.throttle + `},
		"an option of an algorithm": {strings.Replace(base, "h:1'", "h:1', breaker: {algorithm: budget}", 1),
			strings.Replace(base, "h:1'", "h:1', breaker: {algorithm: budget, budget: {short: 5s}}", 1), `routes.svc.breaker.budget.short "1m" "5s"`},
	} {
		t.Run(name, func(t *testing.T) {
			var changes []string
			for _, d := range loaded(t, c.next).Diff(loaded(t, c.old)) {
				line := d.Key + " " + string(d.Old) + " " + string(d.New)
				switch {
				case d.Old == nil:
					line = d.Key + " + "
				case d.New == nil:
					line = d.Key + " -"
				}
				if d.Hidden {
					line += " hidden"
				}
				if d.Restart {
					line += " restart"
				}
				changes = append(changes, line)
				if d.Old != nil && !json.Valid(d.Old) || d.New != nil && !json.Valid(d.New) {
					t.Errorf("no JSON: %s", line)
				}
			}
			if got := strings.Join(changes, "; "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Every key of the effective configuration has a description, and so has every key of a Change.
func TestDescribeCoversEveryKey(t *testing.T) {
	c := loaded(t, `
routes:
  svc: {prefix: /svc, upstream: 'http://h:1'}
  count: {prefix: /count, upstream: 'http://h:1', breaker: {algorithm: count}}
  throttle: {prefix: /throttle, upstream: 'http://h:1', breaker: {algorithm: throttle}}
  budget: {prefix: /budget, upstream: 'http://h:1', breaker: {algorithm: budget}}
  expression: {prefix: /expression, upstream: 'http://h:1', breaker: {algorithm: expression, expression: {open_when: 'p95 > 2'}}}
fallbacks: {svc: {try: [cache, queue, http, upstream, template, static], http: {url: 'http://h:2'}, upstream: {url: 'http://h:2'}, template: {body: a}, static: {body: 1}}}
`)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := json.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	keys := 0
	var walk func(key string, v any)
	walk = func(key string, v any) {
		keys++
		if strings.Count(key, ".") != 1 || !strings.HasPrefix(key, "routes.") && !strings.HasPrefix(key, "fallbacks.") { // names of the operator's own
			if about := routes.Describe(key); len(about) < 10 {
				t.Errorf("%s is described as %q", key, about)
			}
		}
		m, ok := v.(map[string]any)
		if !ok || strings.HasSuffix(key, ".headers") || strings.HasSuffix(key, ".body") {
			return
		}
		for name, inner := range m {
			walk(key+"."+name, inner)
		}
	}
	for name, v := range values {
		walk(name, v)
	}
	if keys < 100 {
		t.Errorf("%d keys looked at", keys)
	}
	for _, key := range []string{"", "nonsense", "routes.svc.nonsense", "listen.more", "routes.svc.timeout.more"} {
		if about := routes.Describe(key); about != "" {
			t.Errorf("%q is described as %q", key, about)
		}
	}
}
