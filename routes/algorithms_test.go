package routes_test

import (
	"reflect"
	"strings"
	"testing"
)

// The options of an algorithm are decoded on top of those of the defaults, and only those of the chosen one are kept.
func TestAlgorithmOptionsAreInherited(t *testing.T) {
	c, err := loader().Parse([]byte(`
defaults: {breaker: {algorithm: steps, steps: {steps: 2}}}
routes:
  rag_service: {upstream: http://a}
  vms_service: {upstream: http://a, breaker: {steps: {height: 1.5}}}
  own: {prefix: /own, upstream: http://a, breaker: {steps: {steps: 4}}}
  plain: {prefix: /plain, upstream: http://a, breaker: {algorithm: ratio, steps: {steps: 5}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]map[string]any{
		"rag_service": {"steps": &stepsOptions{Steps: 2, Height: 1}},
		"vms_service": {"steps": &stepsOptions{Steps: 2, Height: 1.5}},
		"own":         {"steps": &stepsOptions{Steps: 4, Height: 1}},
		"plain":       nil,
	} {
		if got := c.Routes[name].Breaker.Algorithms; !reflect.DeepEqual(got, want) {
			t.Errorf("%s has %+v, want %+v", name, got, want)
		}
	}
}

func TestAlgorithmFaults(t *testing.T) {
	for text, want := range map[string]string{
		"routes: {a: {prefix: /a, upstream: http://a, breaker: {algorithm: magic}}}":                                 "config.yaml:1:56: routes.a.breaker.algorithm: must be the name of an algorithm (ratio, steps), got magic",
		"defaults: {breaker: {algorithm: magic}}\nroutes: {a: {prefix: /a, upstream: http://a}}":                     "config.yaml:1:22: defaults.breaker.algorithm: must be the name of an algorithm (ratio, steps), got magic",
		"routes: {a: {prefix: /a, upstream: http://a, breaker: {stpes: {}}}}":                                        `config.yaml:1:56: routes.a.breaker.stpes: unknown key, did you mean "steps"?`,
		"routes: {a: {prefix: /a, upstream: http://a, breaker: {ratio: {}}}}":                                        "config.yaml:1:56: routes.a.breaker.ratio: unknown key",
		"routes: {a: {prefix: /a, upstream: http://a, breaker: {steps: {steps: 10}}}}":                               "config.yaml:1:64: routes.a.breaker.steps.steps: must be from 1 to 9, got 10",
		"routes: {a: {prefix: /a, upstream: http://a, breaker: {steps: {height: 1, width: 1}}}}":                     "config.yaml:1:75: routes.a.breaker.steps.width: unknown key",
		"routes: {a: {prefix: /a, upstream: http://a, breaker: {steps: 3}}}":                                         "config.yaml:1:56: routes.a.breaker.steps: must be a mapping, got 3",
		"routes: {a: {prefix: /a, upstream: http://a, breaker: {algorithm: steps, steps: {height: 9}}}}":             "config.yaml:1:82: routes.a.breaker.steps.height: must be at most 10 / steps",
		"routes: {a: {prefix: /a, upstream: http://a, breaker: {algorithm: steps, min_requests: 2}}}":                "config.yaml:1:46: routes.a.breaker.steps.steps: must be at most min_requests",
		"defaults: {breaker: {algorithm: steps, steps: {height: 9}}}\nroutes: {a: {prefix: /a, upstream: http://a}}": "config.yaml:1:48: defaults.breaker.steps.height: must be at most 10 / steps",
	} {
		_, err := loader().Parse([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}
