package routes_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/routes"
)

const builtinFallbacks = `
rag_service: {try: [static], static: {headers: {X-Builtin: a}, body: {retrieved_context: [], confidence_score: 0.0}}}
vms_service: {try: [static], static: {body: {status: unavailable}}}
`

// loader returns a Loader for tests with additional environment variables.
func loader(environ ...string) routes.Loader {
	return routes.Loader{
		Path:       "config.yaml",
		Builtin:    []byte(builtinFallbacks),
		Strategies: map[string]func() any{"static": newStaticOptions},
		Algorithms: map[string]func() any{"ratio": nil, "steps": newStepsOptions},
		RedisURL:   redisURL,
		Environ: append([]string{"UPSTREAM=http://127.0.0.1:8001", "NAME=name", "NUMBER=2", "EMPTY=", "YES=true",
			"NULL=null", "STRUCTURE={a: [b]}"}, environ...),
	}
}

// staticOptions replaces the options of the static strategy, so that the tests depend on the loader only.
type staticOptions struct {
	// Status of the answer.
	Status int `yaml:"status" valid:"200..599"`
	// Headers of the answer.
	Headers map[string]string `yaml:"headers"`
	// Any YAML value, served as JSON.
	Body any `yaml:"body"`
}

// stepsOptions replaces the options of an algorithm.
type stepsOptions struct {
	// Number of steps.
	Steps int `yaml:"steps" valid:"1..9"`
	// Height of a step.
	Height float64 `yaml:"height" valid:"positive"`
}

// newStepsOptions returns the options of the algorithm steps by default.
func newStepsOptions() any { return &stepsOptions{Steps: 3, Height: 1} }

// Validate is the check of an algorithm.
func (o *stepsOptions) Validate(report func(path, message string)) {
	if float64(o.Steps)*o.Height > 10 {
		report("height", "must be at most 10 / steps")
	}
}

// ValidateMinRequests is the check of an algorithm that depends on min_requests.
func (o *stepsOptions) ValidateMinRequests(minRequests int, report func(path, message string)) {
	if o.Steps > minRequests {
		report("steps", "must be at most min_requests")
	}
}

// newStaticOptions returns the options of the static strategy by default.
func newStaticOptions() any { return &staticOptions{Status: 200} }

// Validate is the check of a strategy.
func (o *staticOptions) Validate(report func(path, message string)) {
	if _, ok := o.Headers["Date"]; ok {
		report("headers.Date", "must not be set here")
	}
	if o.Body == nil {
		report("body", "must be given")
	}
}

// redisURL replaces the check of Redis URLs, which this package must not import.
func redisURL(url string) error {
	if !strings.HasPrefix(url, "redis://") && !strings.HasPrefix(url, "rediss://") {
		return errors.New("must be a redis or rediss URL")
	}
	return nil
}

func parse(t *testing.T, content string) *routes.Config {
	t.Helper()
	c, err := loader().Parse([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func files(t testing.TB, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(found), err)
	}
	return found
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// expect compares got with the content of file. With -update it writes the file instead.
func expect(t *testing.T, file string, got []byte) {
	t.Helper()
	if *routes.Update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := read(t, file); string(want) != string(got) {
		t.Errorf("got:\n%s\nwant (%s):\n%s", got, file, want)
	}
}
