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
	"cbproxy/routes"
)

// route is one service under one configuration. It is never modified once it is in force.
type route struct {
	config  *routes.Route
	service *service
	pool    *pool
	logger  *slog.Logger
	tunnels *sync.WaitGroup
	proxy   *httputil.ReverseProxy

	timed        bool      // the breaker wants to know how long calls take
	grpcFailures grpcCodes // the codes that are failures
	load         *limiter  // the whole proxy's
	places       int64     // how many of load's the route may use; 0 is no limit

	chain *fallbacks.Chain // nil: no fallback
	when  []events.Reason  // the reasons for which chain answers

	scheme, host string // of the upstream, as http.Transport wants them
	base         string // the upstream URL's raw path, without a trailing slash
	nameHeader   []string
}

func newRoute(c *routes.Route, all *routes.Config) (*route, error) {
	r := &route{
		config: c, scheme: c.Upstream.Scheme, host: c.Upstream.Host,
		timed:        c.Breaker.SlowCallRatio > 0,
		grpcFailures: newGRPCCodes(c.Breaker.GRPCFailureCodes),
		places:       placesFor(all.MaxInFlight, c.Priority),
	}
	if r.scheme == "h2c" {
		r.scheme = "http" // the pool's transport speaks HTTP/2 without TLS
	}
	r.base = strings.TrimSuffix(c.Upstream.EscapedPath(), "/")
	if f := all.Fallbacks[c.Fallback]; f != nil && c.FallbackEnabled {
		steps := make([]fallbacks.Step, 0, len(f.Try))
		for _, name := range f.Try {
			s, err := fallbacks.New(name, f.Strategies[name])
			if err != nil {
				return nil, err
			}
			steps = append(steps, fallbacks.Step{Name: name, Strategy: s})
		}
		r.chain = fallbacks.NewChain(steps...)
		for _, reason := range f.When {
			r.when = append(r.when, events.Reason(reason))
		}
	}
	r.proxy = &httputil.ReverseProxy{
		Rewrite:      rewrite,
		Transport:    r,
		ErrorHandler: answerFailure,
		BufferPool:   copyBuffers{},
	}
	return r, nil
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

const copyBufferSize = 32 << 10

var copyBufferPool = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

func (copyBuffers) Get() []byte { return copyBufferPool.Get().(*[copyBufferSize]byte)[:] }

func (copyBuffers) Put(b []byte) { copyBufferPool.Put((*[copyBufferSize]byte)(b)) }
