package fallbacks

import (
	"context"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// Strategy answers requests in place of an upstream. It must be safe for concurrent use. It may
// also implement the interfaces that the package comment lists. If it implements io.Closer, Close is
// called after its last request.
type Strategy interface {
	// Answer returns the answer to r. It must return soon after ctx is done. An error says why
	// the strategy has no answer; the chain then tries the next one.
	Answer(ctx context.Context, r *Request) (*Answer, error)
}

// Request is a request that the upstream can't answer. Strategies must not modify it or use it
// after they have returned.
type Request struct {
	// Service is the name of the route's service.
	Service string
	// Reason is why the upstream can't answer, a value of X-Fallback-Reason; "test" if the client only
	// tests the fallback, see Tester. It is empty when an Observer records a response.
	Reason string
	// Sent is when the request was sent upstream whose response an Observer records, else zero.
	Sent   time.Time
	Method string
	// Host is the client's Host field.
	Host string
	// Path is the raw path of the client's request. Rest is the part of it that is sent upstream:
	// with strip_prefix, the part below the route's prefix.
	Path, Rest string
	// Query is the raw query without the question mark. EmptyQuery is true if the target ends with
	// a question mark: that is not the same target as one without it (RFC 3986, section 6.2.3).
	Query      string
	EmptyQuery bool
	// Header is the header that the upstream would get: without hop-by-hop fields, and with
	// X-Forwarded-For and the like set by the proxy. It is the same when an Observer records a
	// response and when a strategy answers.
	Header http.Header
	// Upgrade is the protocol that the client asks to switch to, "websocket", or empty. Header does
	// not have it, because it is a hop-by-hop field.
	Upgrade string
	// Body is the whole body. It is nil unless the strategy is a BodyReader and BodyError is nil.
	Body []byte
	// BodyError says why the whole body is not available.
	BodyError error
}

// Answer is a complete response. It may be shared between requests and must not be modified.
type Answer struct {
	// Status is from 200 to 599.
	Status int
	Header http.Header
	Body   []byte
}

// BodyReader is implemented by strategies that use request bodies.
type BodyReader interface {
	// BodyLimit returns the size in bytes of the longest body that the strategy uses. The proxy
	// may buffer that much of each request while the upstream is tried.
	BodyLimit() int64
}

// TimeLimited is implemented by strategies with a time limit other than DefaultTimeLimit.
type TimeLimited interface {
	// TimeLimit returns how long Answer may take.
	TimeLimit() time.Duration
}

// DefaultTimeLimit is how long Answer may take. After that the chain tries the next strategy.
const DefaultTimeLimit = 5 * time.Second

// Starter is implemented by strategies that have background work or hold resources. New must not
// start goroutines, or keep connections or files open, because a configuration may be built and
// never take effect.
type Starter interface {
	// Start is called once, when the strategy's configuration takes effect. It must not block.
	Start()
}

// Constant is implemented by inline strategies that give the same answer to every request. The
// chain then builds no Request.
type Constant interface{ ConstantAnswer() *Answer }

// NonBlocking is implemented by inline strategies whose Answer never blocks. The chain sets no
// time limit for them.
type NonBlocking interface{ NonBlocking() }

// Storer is implemented by strategies that store requests for later. They are called even if the
// client has left.
type Storer interface{ StoresRequests() }

// Interceptor is implemented by inline strategies that answer some requests even though the
// upstream is available.
type Interceptor interface {
	// Intercept reports whether the strategy must answer requests with the given method now.
	// reason is why earlier requests can't be sent upstream, or "" if they are being sent. It is
	// called for each request.
	Intercept(method string) (reason string, ok bool)
}

// Observer is implemented by inline strategies that record the upstream's responses.
type Observer interface {
	BodyReader
	// Record is called with a response's status and header before the client gets it. It returns a
	// Recorder for the body, or nil if the response is not recorded. r and h must not be used
	// after Record has returned.
	Record(r *Request, status int, h http.Header) Recorder
}

// Recorder receives the body of one response. It is used by one goroutine. If Done is not called,
// the response is discarded.
type Recorder interface {
	// Write receives the next part of the body. It must not keep part.
	Write(part []byte)
	// Done is called when the body is complete and the response counts as a success. The Recorder
	// must not be used after that.
	Done()
}

// CacheReporter is implemented by inline strategies that cache responses.
type CacheReporter interface{ CacheStats() CacheStats }

// CacheStats holds the metrics of one route's cache. The counters start with the process and
// survive reloads.
type CacheStats struct {
	// Hits and Misses count lookups.
	Hits, Misses uint64
	// Stored counts responses put into the cache, Evicted those removed to stay within its bounds.
	Stored, Evicted uint64
	// Entries is the number of responses in the cache, Bytes their approximate size in memory.
	Entries int
	Bytes   int64
}

// BreakerReporter is implemented by inline strategies that have a circuit breaker of their own.
type BreakerReporter interface{ BreakerState() events.State }

// RecordBody ends the recording of a response. parts are the last parts of its body. r may be nil.
func RecordBody(r Recorder, parts ...[]byte) {
	if r == nil {
		return
	}
	for _, part := range parts {
		r.Write(part)
	}
	r.Done()
}
