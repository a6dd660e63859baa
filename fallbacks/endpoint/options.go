package endpoint

import (
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/internal/httpclient"
	"cbproxy/routes"
)

// Options configures the http strategy, which sends a POST to an HTTP endpoint. The endpoint gets the request as JSON and returns the answer as JSON; status 204 means that it has no answer.
type Options struct {
	// http, https or h2c URL of the endpoint, including its path, without a slash at the end.
	URL routes.Upstream `yaml:"url"`
	// Time limit for the whole call.
	Timeout time.Duration `yaml:"timeout" valid:"positive"`
	// Longest request body that the endpoint gets. A longer body is omitted, and body_omitted gives the reason.
	MaxBody routes.Size `yaml:"max_body" valid:"0..64MiB"`
	// Longest response of the endpoint. A longer response is discarded, and the next strategy is tried.
	MaxResponse routes.Size `yaml:"max_response" valid:"1..1GiB"`
	// Names of the request's header fields that the endpoint gets. By default it gets none, so that credentials are not passed on by accident.
	Headers []string `yaml:"headers" most:"100"`
}

// DefaultOptions returns the options with their default values.
func DefaultOptions() *Options {
	return &Options{Timeout: time.Second, MaxBody: 64 << 10, MaxResponse: 1 << 20}
}

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	if o.URL.URL == nil {
		report("url", httpclient.MissingURL)
	}
	fallbacks.ValidateFieldNames("headers", o.Headers, report)
}

// Server returns the endpoint and its key, for the check that it is not the proxy itself.
func (o *Options) Server() (key string, u routes.Upstream) { return "url", o.URL }
