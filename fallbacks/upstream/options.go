package upstream

import (
	"time"

	"gopkg.in/yaml.v3"

	"cbproxy/fallbacks/internal/httpclient"
	"cbproxy/routes"
)

// Options configures the upstream strategy, which sends the request to a second upstream.
type Options struct {
	// http, https or h2c URL of the second upstream. Its path is prepended to that of the request.
	URL routes.Upstream `yaml:"url"`
	// Time limit for the whole call, including the last byte of the response.
	Timeout time.Duration `yaml:"timeout" valid:"positive"`
	// Longest request body that is buffered for the second upstream. A request with a longer body is not sent.
	MaxBody routes.Size `yaml:"max_body" valid:"0..64MiB"`
	// Longest response body. A longer response is discarded, and the next strategy is tried.
	MaxResponse routes.Size `yaml:"max_response" valid:"1..1GiB"`
	// Send the client's Host field instead of the host of the URL.
	PreserveHost bool `yaml:"preserve_host"`
	// TLS to an https upstream, TLS 1.2 or newer.
	TLS routes.TLS `yaml:"tls"`
	// Circuit breaker of the second upstream.
	Breaker BreakerOptions `yaml:"breaker"`
}

// BreakerOptions configures the circuit breaker of a second upstream.
type BreakerOptions struct {
	// Consecutive failures that open the breaker.
	FailMax int `yaml:"fail_max" valid:"1..1000000"`
	// How long the breaker stays open before it probes.
	RecoveryTimeout time.Duration `yaml:"recovery_timeout" valid:"positive"`
	// Concurrent probes, and consecutive successes that close the breaker.
	HalfOpenRequests int `yaml:"half_open_requests" valid:"1..1000000"`
	// Statuses that count as failures, after which the next strategy is tried: codes, "5xx", or "500-504".
	FailureStatuses routes.Statuses `yaml:"failure_statuses"`
}

// DefaultOptions returns the options with their default values.
func DefaultOptions() *Options {
	o := &Options{
		Timeout:     10 * time.Second,
		MaxBody:     1 << 20,
		MaxResponse: 8 << 20,
		Breaker:     BreakerOptions{FailMax: 5, RecoveryTimeout: 30 * time.Second, HalfOpenRequests: 1},
	}
	_ = o.Breaker.FailureStatuses.UnmarshalYAML(&yaml.Node{Kind: yaml.ScalarNode, Tag: "str", Value: "5xx"}) // is valid
	return o
}

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	if o.URL.URL == nil {
		report("url", httpclient.MissingURL)
	}
	o.TLS.CheckFiles(func(key, message string) { report("tls."+key, message) })
}

// Server returns the second upstream and its key, for the check that it is not the proxy itself.
func (o *Options) Server() (key string, u routes.Upstream) { return "url", o.URL }
