// Package fallbacks holds what is served when an upstream can't: the strategies, one file
// each, the registry that knows them by name, the chain that asks one after the other, and
// the built-in bodies.
package fallbacks

import (
	"context"
	_ "embed"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// Strategy answers requests in an upstream's place. It must be safe for concurrent use and
// must return soon after ctx is done. It may also be a BodyReader, TimeLimited, Starter
// or io.Closer; Close is called once no request can reach it any more.
type Strategy interface {
	// Answer returns the answer to r. An error says why this strategy has none; the next
	// one is then asked.
	Answer(ctx context.Context, r *Request) (*Answer, error)
}

// BodyReader is a strategy that wants to see the bodies of requests.
type BodyReader interface {
	// BodyLimit returns the size in bytes of the longest body that it has a use for. That
	// much may be kept of each request while its upstream is asked.
	BodyLimit() int64
}

// TimeLimited is a strategy that has a time limit other than DefaultTimeLimit.
type TimeLimited interface {
	// TimeLimit returns how long Answer may take.
	TimeLimit() time.Duration
}

// DefaultTimeLimit is how long a strategy may take to answer. One that takes longer has no
// answer.
const DefaultTimeLimit = 5 * time.Second

// constant is a strategy that has the same answer for every request, which is spared all that an
// answer to one in particular takes.
type constant interface{ constant() *Answer }

// instant is a strategy of the proxy's own that waits for nothing, and is spared a time limit.
type instant interface{ instant() }

// Starter is a strategy that does something by itself, or holds something. It must do so only
// once it is started: a configuration may be built and never come into force.
type Starter interface {
	// Start is called once, when the strategy's configuration comes into force, and must
	// return at once.
	Start()
}

// holder is a strategy that some requests must go to although their upstream could be asked.
type holder interface {
	// Holds reports whether requests with the given method must do so now, and why the upstream
	// can't take those before them, "" if it does. It is called for each request.
	Holds(method string) (reason events.Reason, holds bool)
}

// learner is a strategy that wants to see the good responses of the upstream.
type learner interface {
	BodyReader
	// Learn is called with a response's header section before the client gets it. It returns
	// what is to be told of the body, nil if the response is of no use. r and h must not be
	// used after that.
	Learn(r *Request, status int, h http.Header) Lesson
}

// Lesson is told of one response's body, by one goroutine. What it is never told the end of
// is not learnt.
type Lesson interface {
	// Write takes the next part of the body, which must not be kept.
	Write(part []byte)
	// Done tells that the body is whole and the response was good. The lesson must not be used
	// after that.
	Done()
}

// Request is a request that its upstream can't answer. Strategies must not modify it, nor
// use it after they have returned.
type Request struct {
	// Service is the route's service.
	Service string
	// Reason is why the upstream can't answer; "" for a request to learn from.
	Reason events.Reason
	Method string
	// Host is the client's Host field.
	Host string
	// Path is the raw path, as the client wrote it, and Rest what of it goes upstream: that
	// below the route's prefix, where strip_prefix is set.
	Path, Rest string
	// Query is the raw query, without its question mark. EmptyQuery tells a target that ends with the
	// question mark from one without it, which is another target (RFC 3986, section 6.2.3).
	Query      string
	EmptyQuery bool
	// Header is as the upstream gets it: without the fields of the client's connection, and
	// with X-Forwarded-For and its like as the proxy sets them.
	Header http.Header
	// Body is nil unless the strategy is a BodyReader and the whole body is known.
	Body []byte
	// BodyError says why the whole body is not known, nil if it is.
	BodyError error
}

// Answer is a whole response. It may be shared between requests: whoever gets one must not
// modify it.
type Answer struct {
	// Status is from 200 to 599.
	Status int
	Header http.Header
	Body   []byte
}

//go:embed builtin.yaml
var builtin []byte

// Builtin returns the built-in fallbacks as a YAML mapping by name, in the shape of the
// configuration's fallbacks key.
func Builtin() []byte { return builtin }
