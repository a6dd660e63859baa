package proxy

import (
	"log/slog"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/limit"
	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// route is one service under one configuration. It is never modified once it is in force.
type route struct {
	config  *routes.Route
	service *service
	pool    *upstream.Pool
	poolKey poolKey // of pool
	logger  *slog.Logger
	tracer  events.Tracer // nil: nothing is traced
	tunnels *sync.WaitGroup
	via     *message.Via
	proxy   *httputil.ReverseProxy

	timed         bool               // the breaker wants to know how long calls take
	grpcFailures  grpc.Codes         // the codes that are failures
	proxyInFlight *limit.Concurrency // of all routes
	maxOfProxy    int64              // permits of proxyInFlight that the route may use; 0: no limit

	chain *fallbacks.Chain // nil: no fallback
	when  []events.Reason  // the reasons for which chain answers
	keep  int64            // bytes of the longest request body that chain has a use for

	target     upstream.Target
	nameHeader []string
}

func newRoute(c *routes.Route, all *routes.Config) *route {
	r := &route{
		config: c, target: upstream.TargetOf(c.Upstream.URL),
		timed:        c.Breaker.SlowCallRatio > 0,
		grpcFailures: grpc.NewCodes(c.Breaker.GRPCFailureCodes),
		maxOfProxy:   permitsFor(all.MaxInFlight, c.Priority),
	}
	r.proxy = &httputil.ReverseProxy{
		Rewrite:      rewrite,
		Transport:    r,
		ErrorHandler: answerFailure,
		BufferPool:   copyBuffers{},
	}
	return r
}

// prefix returns the route's prefix that a request's path matched with its first bytes, which
// may have it with other percent-encoding.
func (rt *route) prefix(matched string) string {
	for _, prefix := range rt.config.Prefix {
		if strings.TrimSuffix(prefix, "/") == matched {
			return prefix
		}
	}
	return rt.config.Prefix[0]
}

// setFallback gives the route the fallback that its configuration names, if there is one. before
// is the chain that the service has until now.
func (rt *route) setFallback(all *routes.Config, env fallbacks.Env, before *fallbacks.Chain) (err error) {
	f := all.Fallbacks[rt.config.Fallback]
	if f == nil || !rt.config.FallbackEnabled {
		return nil
	}
	if rt.chain, err = fallbacks.NewChain(f.Try, f.Strategies, env, before); err != nil {
		return err
	}
	rt.keep = rt.chain.BodyLimit()
	for _, reason := range f.When {
		rt.when = append(rt.when, events.Reason(reason))
	}
	return nil
}

func (rt *route) setService(name string) {
	rt.nameHeader = []string{name}
	rt.proxy.ErrorLog = slog.NewLogLogger(rt.logger.With("service", name).Handler(), slog.LevelDebug)
}

// answersFor reports whether a fallback may answer for reason.
func (rt *route) answersFor(reason events.Reason) bool {
	return rt.chain != nil && slices.Contains(rt.when, reason)
}

// The values of X-Circuit-Breaker-State, ready to be put into a header.
var stateHeaders = func() (values [len(events.States)][]string) {
	for _, s := range events.States {
		values[s] = []string{s.String()}
	}
	return values
}()

// sign puts the signalling fields of a routed response into h.
func (rt *route) sign(h http.Header, state events.State) {
	h["X-Circuit-Breaker-Service"] = rt.nameHeader
	h["X-Circuit-Breaker-State"] = stateHeaders[state]
}

// copyBuffers lends ReverseProxy the buffers it copies bodies with.
type copyBuffers struct{}

const copyBufferSize = 16 << 10 // a silent stream keeps one

var copyBufferPool = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

func (copyBuffers) Get() []byte { return copyBufferPool.Get().(*[copyBufferSize]byte)[:] }

func (copyBuffers) Put(b []byte) { copyBufferPool.Put((*[copyBufferSize]byte)(b)) }
