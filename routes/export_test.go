package routes

import "flag"

// Update makes the golden files and the schema what the code makes of them.
var Update = flag.Bool("update", false, "write what is expected from what is")

// StaticOptions stands in for the options of the static strategy, which this package may not know.
type StaticOptions struct {
	// Status of the answer.
	Status int `yaml:"status" valid:"200..599"`
	// Headers of the answer.
	Headers map[string]string `yaml:"headers"`
	// Any YAML value, served as JSON.
	Body any `yaml:"body"`
}

// NewStaticOptions returns the options of the static strategy by default.
func NewStaticOptions() any { return &StaticOptions{Status: 200} }

// Validate refuses what only the strategy knows to be wrong.
func (o *StaticOptions) Validate(report func(path, message string)) {
	if _, ok := o.Headers["Date"]; ok {
		report("headers.Date", "must not be set here")
	}
	if o.Body == nil {
		report("body", "must be given")
	}
}
