package routes_test

import "cbproxy/routes"

// staticOptions stands in for the options of the static strategy, which this package may not know.
type staticOptions struct {
	// Status of the answer.
	Status int `yaml:"status" valid:"200..599"`
	// Headers of the answer.
	Headers map[string]string `yaml:"headers"`
	// Body, any YAML value, served as JSON.
	Body any `yaml:"body"`
}

// Validate refuses what only the strategy knows to be wrong.
func (o *staticOptions) Validate(report func(path, message string)) {
	if _, ok := o.Headers["Date"]; ok {
		report("headers.Date", "must not be set here")
	}
	if o.Body == nil {
		report("body", "must be given")
	}
}

const builtinFallbacks = `
rag_service: {try: [static], static: {headers: {X-Builtin: a}, body: {retrieved_context: [], confidence_score: 0.0}}}
vms_service: {try: [static], static: {body: {status: unavailable}}}
`

// loader returns a Loader as the tests need it, with more of an environment if given.
func loader(environ ...string) routes.Loader {
	return routes.Loader{
		Path:       "config.yaml",
		Builtin:    []byte(builtinFallbacks),
		Strategies: map[string]func() any{"static": func() any { return &staticOptions{Status: 200} }},
		Environ: append([]string{"UPSTREAM=http://127.0.0.1:8001", "NAME=name", "NUMBER=2", "EMPTY=", "YES=true",
			"NULL=null", "STRUCTURE={a: [b]}"}, environ...),
	}
}
