package template

import (
	"net/http"

	"cbproxy/fallbacks"
	"cbproxy/routes"
)

// Options configures the template strategy, which renders its answer from the request.
type Options struct {
	// Status of the answer.
	Status int `yaml:"status" valid:"200..599"`
	// Headers of the answer; their values are not templates. Content-Type is application/json unless it is set here.
	Headers map[string]string `yaml:"headers"`
	// Body, any YAML value, served as JSON. Its string values, but not its keys, may be Go templates with the functions service, reason, method, path N, query NAME, header NAME, json PATH and default VALUE in addition to those of text/template. Functions treat numbers from json as strings. If the whole string is one action, such as {{json "limit"}}, the result keeps the type of its value; a missing value is null.
	Body fallbacks.JSON `yaml:"body"`
	// Longest request body that json reads. For a longer body, or one that is not JSON, json returns a missing value.
	MaxBody routes.Size `yaml:"max_body" valid:"1..1MiB"`
	// Methods of the requests that are answered, in upper case; empty answers all. For other requests the next strategy is tried; without one the client gets 503.
	Methods []string `yaml:"methods" valid:"method" most:"32"`
	// Media types, such as application/json, of which the client must accept at least one by its Accept field. For other requests the next strategy is tried; without one the client gets 503. Empty answers all clients, and a client without Accept accepts all types.
	ContentTypes []string `yaml:"content_types" most:"32"`
}

// DefaultOptions returns the options with their default values.
func DefaultOptions() *Options {
	return &Options{Status: http.StatusOK, MaxBody: 64 << 10}
}

// DropDefaults removes a body that was not given, if the answer has none because of its status.
func (o *Options) DropDefaults(given func(key string) bool) {
	fallbacks.DropDefaultBody(&o.Body, o.Status, given)
}

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	fallbacks.ValidateAnswer(o.Status, o.Headers, o.Body, report)
	parseBody(o.Body, report)
	o.selection().Validate(report)
}

func (o *Options) selection() fallbacks.Selection {
	return fallbacks.Selection{Methods: o.Methods, ContentTypes: o.ContentTypes}
}
