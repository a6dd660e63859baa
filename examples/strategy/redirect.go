// Package redirect is a fallback strategy outside the repository of cbproxy. It redirects clients to
// another server while their upstream is unavailable. Importing the package registers it.
package redirect

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"cbproxy/fallbacks"
)

func init() {
	fallbacks.Register("redirect", fallbacks.Factory[Options]{Defaults: DefaultOptions, New: New})
}

// Options are the keys below fallbacks.NAME.redirect in the configuration.
type Options struct {
	// URL of the other server. The path and the query of the request are appended.
	URL string `yaml:"url"`
	// Status of the redirect.
	Status int `yaml:"status" valid:"300..399"`
}

// DefaultOptions returns the options with their default values.
func DefaultOptions() *Options { return &Options{Status: http.StatusTemporaryRedirect} }

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	if u, err := url.Parse(o.URL); err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		report("url", fmt.Sprintf("must be a URL such as https://standby.example.com/api, got %q", o.URL))
	}
}

// Strategy implements fallbacks.Strategy.
type Strategy struct {
	base   string
	status int
}

// New returns a strategy for one route.
func New(o *Options, _ fallbacks.Env) (fallbacks.Strategy, error) {
	return &Strategy{strings.TrimSuffix(o.URL, "/"), o.Status}, nil
}

// Answer redirects r. It returns an error for methods other than GET and HEAD, so that the chain
// tries the next strategy.
func (s *Strategy) Answer(_ context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, fmt.Errorf("the method %s is not redirected", r.Method)
	}
	location := s.base + r.Path
	if r.Query != "" {
		location += "?" + r.Query
	}
	return &fallbacks.Answer{Status: s.status, Header: http.Header{"Location": {location}}}, nil
}
