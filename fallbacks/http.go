package fallbacks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// HTTPOptions configures the http strategy, which asks an endpoint of one's own by POST. It
// gets the request as JSON and gives the answer as JSON; status 204 is no answer.
type HTTPOptions struct {
	// http, https or h2c URL of the endpoint, its path included, without a slash at its end.
	URL routes.Upstream `yaml:"url"`
	// Time for the whole exchange with it.
	Timeout time.Duration `yaml:"timeout" valid:"positive"`
	// Longest request body that it is given; of a longer one it is told that it was left out.
	MaxBody routes.Size `yaml:"max_body" valid:"0..64MiB"`
	// Longest answer as JSON; a longer one is no answer.
	MaxResponse routes.Size `yaml:"max_response" valid:"1..1GiB"`
	// Names of the request's header fields that it is given. Without any it is given none: credentials go nowhere unasked.
	Headers []string `yaml:"headers" most:"100"`
}

func defaultHTTPOptions() *HTTPOptions {
	return &HTTPOptions{Timeout: time.Second, MaxBody: 64 << 10, MaxResponse: 1 << 20}
}

// Validate reports what the types can't say, by path below the options.
func (o *HTTPOptions) Validate(report func(path, message string)) {
	if o.URL.URL == nil {
		report("url", needsURL)
	}
	ValidateFieldNames("headers", o.Headers, report)
}

// Server returns the endpoint and its key, for the check that it is not the proxy itself.
func (o *HTTPOptions) Server() (key string, u routes.Upstream) { return "url", o.URL }

// endpoint asks a server that somebody wrote for this.
type endpoint struct {
	*upstream.Client
	maxBody int64
	headers []string // canonical names
}

func newEndpoint(o *HTTPOptions, site Site) (Strategy, error) {
	var before *upstream.SharedPool
	if e, ok := site.Previous.(*endpoint); ok {
		before = e.Pool
	}
	client, err := newClient(o.URL, routes.TLS{}, o.Timeout, o.MaxResponse, site, before)
	if err != nil {
		return nil, err
	}
	e := &endpoint{Client: client, maxBody: int64(o.MaxBody)}
	for _, name := range o.Headers {
		e.headers = append(e.headers, http.CanonicalHeaderKey(name))
	}
	return e, nil
}

// BodyLimit returns max_body.
func (e *endpoint) BodyLimit() int64 { return e.maxBody }

// Start holds the connections.
func (e *endpoint) Start() { e.Pool.Acquire() }

// Answer returns what the endpoint says.
func (e *endpoint) Answer(ctx context.Context, r *Request) (*Answer, error) {
	body, err := writeQuestion(r, e.headers)
	if err != nil {
		return nil, fmt.Errorf("write the inquiry to the endpoint: %w", err)
	}
	h := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}, "User-Agent": {"cbproxy-fallback"}}
	if via := r.Header["Via"]; via != nil {
		h["Via"] = via // or a loop through this endpoint would not be noticed
	}
	said, f := e.Fetch(ctx, e.Request(http.MethodPost, "", "", h, body), acceptAnswer)
	if f != nil {
		return nil, f
	}
	a, err := readAnswer(said.Body)
	if err != nil {
		return nil, fmt.Errorf("read the endpoint's answer: %w", err)
	}
	return a, nil
}

// Close lets go of the connections, which the next strategy may have taken over.
func (e *endpoint) Close() error {
	e.Pool.Release()
	return nil
}

func acceptAnswer(status int) error {
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusNoContent:
		return errors.New("the endpoint has no answer")
	}
	return fmt.Errorf("the endpoint's status is %d, want 200 or 204", status)
}
