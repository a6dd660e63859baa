package static

import (
	"net/http"
	"slices"

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
	// Methods of the requests that are answered, in upper case; empty answers all. For other requests the next strategy is tried; without one the client gets 503.
	Methods []string `yaml:"methods" valid:"method" most:"32"`
	// Media types, such as application/json, of which the client must accept at least one by its Accept field. For other requests the next strategy is tried; without one the client gets 503. Empty answers all clients, and a client without Accept accepts all types.
	ContentTypes []string `yaml:"content_types" most:"32"`
}

// DefaultOptions returns the options with their default values. The methods are those of requests that ask for something: a client whose
// PUT, PATCH or DELETE gets a 200 takes it for done.
func DefaultOptions() *Options {
	return &Options{Status: http.StatusOK, Methods: []string{http.MethodGet, http.MethodHead, http.MethodPost}}
}

// DropDefaults removes a body that was not given, if the answer has none because of its status.
func (o *Options) DropDefaults(given func(key string) bool) {
	fallbacks.DropDefaultBody(&o.Body, o.Status, given)
}

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	fallbacks.ValidateAnswer(o.Status, o.Headers, o.Body, report)
	o.selection().Validate(report)
}

// Note says which requests are not answered by default.
func (o *Options) Note() string {
	if !slices.Equal(o.Methods, DefaultOptions().Methods) {
		return ""
	}
	return "answers GET, HEAD and POST; requests with another method get the next strategy or 503 (set methods to change that)"
}

func (o *Options) selection() fallbacks.Selection {
	return fallbacks.Selection{Methods: o.Methods, ContentTypes: o.ContentTypes}
}
