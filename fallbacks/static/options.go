package static

import (
	"net/http"

	"cbproxy/fallbacks"
)

// Options configures the static strategy, which gives the same answer to every request.
type Options struct {
	// Status of the answer.
	Status int `yaml:"status" valid:"200..599"`
	// Headers of the answer. Content-Type is application/json unless it is set here.
	Headers map[string]string `yaml:"headers"`
	// Body, any YAML value, served as JSON.
	Body fallbacks.JSON `yaml:"body"`
}

// DefaultOptions returns the options with their default values.
func DefaultOptions() *Options { return &Options{Status: http.StatusOK} }

// DropDefaults removes a body that was not given, if the answer has none because of its status.
func (o *Options) DropDefaults(given func(key string) bool) {
	fallbacks.DropDefaultBody(&o.Body, o.Status, given)
}

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	fallbacks.ValidateAnswer(o.Status, o.Headers, o.Body, report)
}
