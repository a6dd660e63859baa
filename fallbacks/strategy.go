// Package fallbacks holds what is served when an upstream can't: the strategies, one file
// each, the registry that knows them by name, and the built-in bodies.
package fallbacks

import (
	"context"
	_ "embed"
	"net/http"

	"cbproxy/internal/events"
)

// Strategy answers requests in an upstream's place. It must be safe for concurrent use and
// must return soon after ctx is done.
type Strategy interface {
	// Answer returns the answer to r. An error says why this strategy has none; the next
	// one is then asked.
	Answer(ctx context.Context, r *Request) (*Answer, error)
}

// Request is a request that its upstream can't answer.
type Request struct {
	// Client is the client's request. Its body may have been read in part or in whole.
	Client *http.Request
	// Service is the route's service.
	Service string
	// Reason is why the upstream can't answer.
	Reason events.Reason
}

// Answer is a whole response. It may be shared between requests: whoever gets one must not
// modify it.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

//go:embed builtin.yaml
var builtin []byte

// Builtin returns the built-in fallbacks as a YAML mapping by name, in the shape of the
// configuration's fallbacks key.
func Builtin() []byte { return builtin }
