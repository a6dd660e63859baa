package fallbacks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// UpstreamOptions configures the upstream strategy, which asks a second upstream.
type UpstreamOptions struct {
	// http, https or h2c URL of the second upstream; a path here is kept in front.
	URL routes.Upstream `yaml:"url"`
	// Time for the whole exchange with it, up to the last byte of its response.
	Timeout time.Duration `yaml:"timeout" valid:"positive"`
	// Longest request body that is kept for it; a request with a longer one is not sent there.
	MaxBody routes.Size `yaml:"max_body" valid:"0..64MiB"`
	// Longest body of a response; a longer response is no answer.
	MaxResponse routes.Size `yaml:"max_response" valid:"1..1GiB"`
	// Send the client's Host field instead of the second upstream's own.
	PreserveHost bool `yaml:"preserve_host"`
	// TLS to an https upstream, by TLS 1.2 or newer.
	TLS routes.TLS `yaml:"tls"`
	// When the second upstream is given up, and when it is tried again.
	Breaker UpstreamBreaker `yaml:"breaker"`
}

// UpstreamBreaker configures the circuit breaker of a second upstream.
type UpstreamBreaker struct {
	// Consecutive failures that open.
	FailMax int `yaml:"fail_max" valid:"1..1000000"`
	// How long the breaker is open before it probes.
	RecoveryTimeout time.Duration `yaml:"recovery_timeout" valid:"positive"`
	// Probes let through at once, and successes in a row needed to close.
	HalfOpenRequests int `yaml:"half_open_requests" valid:"1..1000000"`
	// Statuses that are failures and no answers: codes, "5xx", or "500-504".
	FailureStatuses routes.Statuses `yaml:"failure_statuses"`
}

func defaultUpstreamOptions() *UpstreamOptions {
	o := &UpstreamOptions{
		Timeout:     10 * time.Second,
		MaxBody:     1 << 20,
		MaxResponse: 8 << 20,
		Breaker:     UpstreamBreaker{FailMax: 5, RecoveryTimeout: 30 * time.Second, HalfOpenRequests: 1},
	}
	_ = o.Breaker.FailureStatuses.UnmarshalYAML(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "5xx"}) // is a class
	return o
}

const needsURL = "must be given: an http, https or h2c URL such as http://rag:8000"

// Validate reports what the types can't say, by path below the options.
func (o *UpstreamOptions) Validate(report func(path, message string)) {
	if o.URL.URL == nil {
		report("url", needsURL)
	}
	o.TLS.CheckFiles(func(key, message string) { report("tls."+key, message) })
}

// Server returns the second upstream and its key, for the check that it is not the proxy itself.
func (o *UpstreamOptions) Server() (key string, u routes.Upstream) { return "url", o.URL }

// secondUpstream asks a second upstream, unless its breaker has given that up.
type secondUpstream struct {
	*upstream.Client
	options *UpstreamOptions
	gate    *gate
}

func newUpstream(o *UpstreamOptions, site Site) (Strategy, error) {
	before, _ := site.Previous.(*secondUpstream)
	var pool *upstream.SharedPool
	if before != nil {
		pool = before.Pool
	}
	client, err := newClient(o.URL, o.TLS, o.Timeout, o.MaxResponse, site, pool)
	if err != nil {
		return nil, err
	}
	u := &secondUpstream{Client: client, options: o}
	if url := o.URL.String(); before != nil && before.gate.url == url {
		u.gate = before.gate
	} else {
		u.gate = newGate(url, u.policy(), site)
	}
	return u, nil
}

func (u *secondUpstream) policy() breaker.Policy {
	b := &u.options.Breaker
	return breaker.Policy{FailMax: b.FailMax, RecoveryTimeout: b.RecoveryTimeout, HalfOpenRequests: b.HalfOpenRequests}
}

// BodyLimit returns max_body: what is sent to the second upstream must be kept.
func (u *secondUpstream) BodyLimit() int64 { return int64(u.options.MaxBody) }

// Start puts the breaker's policy in force, also where the breaker is the last strategy's.
func (u *secondUpstream) Start() {
	u.Pool.Acquire()
	u.gate.hold()
	u.gate.breaker.SetPolicy(u.policy())
}

// Breaker returns the second upstream's breaker, which is the last strategy's where the URL is
// the same.
func (u *secondUpstream) Breaker() *breaker.Breaker { return u.gate.breaker }

// Answer returns the second upstream's response, whatever it says, unless its status is a
// failure.
func (u *secondUpstream) Answer(ctx context.Context, r *Request) (*Answer, error) {
	if err := unfit(ctx, r); err != nil {
		return nil, err
	}
	call, err := u.gate.breaker.Allow()
	if err != nil {
		return nil, err
	}
	report, start := call.Cancel, time.Now() // a panic says nothing of the upstream
	defer func() { report() }()
	if call.State == events.HalfOpen {
		u.Pool.Renew() // connections from before the failure must not decide recovery
	}
	res, f := u.Fetch(ctx, u.forward(r), u.accept)
	switch {
	case f == nil:
		report = func() { call.Success(time.Since(start)) }
		return answerOf(res), nil
	case f.Failure != "":
		report = func() {
			call.Failure(&events.Failure{Time: time.Now(), Type: f.Failure, Detail: f.Error()}, time.Since(start))
		}
	}
	return nil, f
}

// Close lets go of what the next strategy may have taken over.
func (u *secondUpstream) Close() error {
	u.gate.release()
	u.Pool.Release()
	return nil
}

// unfit returns why r can't go to a second upstream, nil if it can.
func unfit(ctx context.Context, r *Request) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.Header["Upgrade"] != nil:
		return errors.New("an upgrade has no whole response")
	case upstream.IsGRPCMediaType(r.Header.Get("Content-Type")):
		return errors.New("a gRPC call has no whole response")
	case r.BodyError != nil:
		return fmt.Errorf("the request's body is not known: %w", r.BodyError)
	}
	return nil
}

// forward returns the second upstream's request. http.Transport may still read it when r is
// the caller's again.
func (u *secondUpstream) forward(r *Request) *http.Request {
	h := r.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	for _, name := range []string{"Expect", "Te", "Trailer"} { // nothing is left to wait for, and trailers are not kept
		delete(h, name)
	}
	if h["User-Agent"] == nil {
		h["User-Agent"] = []string{""} // or net/http sets its own
	}
	out := u.Request(r.Method, r.Rest, r.Query, h, slices.Clone(r.Body))
	out.URL.ForceQuery = r.EmptyQuery
	if u.options.PreserveHost {
		out.Host = r.Host
	}
	return out
}

func (u *secondUpstream) accept(status int) error {
	if u.options.Breaker.FailureStatuses.Has(status) {
		return fmt.Errorf("status %d", status)
	}
	return nil
}
