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

// route is one service under one configuration. It is not modified after its configuration takes effect.
type route struct {
	config  *routes.Route
	service *service
	pool    *upstream.Pool
	poolKey poolKey // of pool
	logger  *slog.Logger
	tracer  events.Tracer // nil: requests are not traced
	tunnels *sync.WaitGroup
	via     *message.Via
	proxy   *httputil.ReverseProxy

	timed         bool               // the breaker uses response times
	grpcFailures  grpc.Codes         // the status codes that are failures
	proxyInFlight *limit.Concurrency // of all routes
	maxOfProxy    int64              // permits of proxyInFlight that the route may use; 0: no limit

	chain       *fallbacks.Chain // nil: no fallback
	when        []events.Reason  // the reasons for which chain answers
	maxRetained int64            // bytes of the longest request body that chain uses

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

// prefix returns the configured prefix that the start of a request's path matched. Its percent-encoding may differ.
func (rt *route) prefix(matched string) string {
	for _, prefix := range rt.config.Prefix {
		if strings.TrimSuffix(prefix, "/") == matched {
			return prefix
		}
	}
	return rt.config.Prefix[0]
}

// setFallback builds the fallback that the configuration names, if any. before is the service's current chain.
func (rt *route) setFallback(all *routes.Config, env fallbacks.Env, before *fallbacks.Chain) (err error) {
	f := all.Fallbacks[rt.config.Fallback]
	if f == nil || !rt.config.FallbackEnabled {
		return nil
	}
	if rt.chain, err = fallbacks.NewChain(f.Try, f.Strategies, env, before); err != nil {
		return err
	}
	rt.maxRetained = rt.chain.BodyLimit()
	for _, reason := range f.When {
		rt.when = append(rt.when, events.Reason(reason))
	}
	return nil
}

func (rt *route) setService(name string) {
	rt.nameHeader = []string{name}
	rt.proxy.ErrorLog = slog.NewLogLogger(rt.logger.With("service", name).Handler(), slog.LevelDebug)
}

// answersFor reports whether the fallback is configured for reason.
func (rt *route) answersFor(reason events.Reason) bool {
	return rt.chain != nil && slices.Contains(rt.when, reason)
}

// stateHeaders are the values of X-Circuit-Breaker-State, allocated once.
var stateHeaders = func() (values [len(events.States)][]string) {
	for _, s := range events.States {
		values[s] = []string{s.String()}
	}
	return values
}()

// sign sets the proxy's own fields of a response on a route.
func (rt *route) sign(h http.Header, state events.State) {
	h["X-Circuit-Breaker-Service"] = rt.nameHeader
	h["X-Circuit-Breaker-State"] = stateHeaders[state]
}

// copyBuffers implements httputil.BufferPool.
type copyBuffers struct{}

const copyBufferSize = 16 << 10 // bytes; each silent stream holds one

var copyBufferPool = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

func (copyBuffers) Get() []byte { return copyBufferPool.Get().(*[copyBufferSize]byte)[:] }

func (copyBuffers) Put(b []byte) { copyBufferPool.Put((*[copyBufferSize]byte)(b)) }
