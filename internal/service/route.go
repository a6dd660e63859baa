package service

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"cbproxy/fallbacks"
	"cbproxy/internal/balance"
	"cbproxy/internal/breaker/keyed"
	"cbproxy/internal/events"
	"cbproxy/internal/expression"
	"cbproxy/internal/grpc"
	"cbproxy/internal/limit"
	"cbproxy/internal/message"
	"cbproxy/routes"
)

// Route is what one configuration says about one service. It is not modified after the configuration takes effect.
type Route struct {
	Config    *routes.Route
	Service   *Service
	Endpoints *balance.Set
	Logger    *slog.Logger
	tracer    events.Tracer // nil: requests are not traced
	Via       *message.Via

	SpeaksHTTP1      bool                    // all endpoints have the scheme http
	UsesCallDuration bool                    // response times are used or learnt by the breaker, or recorded
	FailureWhen      *expression.FailureWhen // nil: there is none
	GRPCFailures     grpc.Codes              // the status codes that are failures
	ProxyInFlight    *limit.Concurrency      // of all routes
	MaxProxyInFlight int64                   // permits of ProxyInFlight that the route may use; 0: no limit

	Chain           *fallbacks.Chain // nil: no fallback
	fallbackReasons []events.Reason  // the reasons for which Chain is used
	MaxFallbackBody int64            // bytes of the largest request body that Chain uses

	keys      *keyed.Breakers // nil: requests are not judged by key
	keyHeader string          // the field that has the key, in canonical form

	nameHeader []string
}

func newRoute(c *routes.Route, all *routes.Config) *Route {
	policy := PolicyOf(c)
	return &Route{
		Config: c, SpeaksHTTP1: c.Upstream.AllHTTP(),
		UsesCallDuration: policy.NeedsDurations() || all.Outcomes.Enabled,
		GRPCFailures:     grpc.NewCodes(c.Breaker.GRPCFailureCodes),
		keyHeader:        http.CanonicalHeaderKey(c.Breaker.By.Header),
		MaxProxyInFlight: permitsFor(all.MaxInFlight, c.Priority),
	}
}

// prefix returns the configured prefix that the start of a request's path matched. Its percent-encoding may differ.
func (rt *Route) prefix(matched string) string {
	for _, prefix := range rt.Config.Prefix {
		if strings.TrimSuffix(prefix, "/") == matched {
			return prefix
		}
	}
	return rt.Config.Prefix[0]
}

// setFallback builds the fallback that the configuration names, if any. previous is the service's current chain.
func (rt *Route) setFallback(all *routes.Config, env fallbacks.Env, previous *fallbacks.Chain) (err error) {
	f := all.Fallbacks[rt.Config.Fallback]
	if f == nil || !rt.Config.FallbackEnabled {
		return nil
	}
	if rt.Chain, err = fallbacks.NewChain(f.Try, f.Strategies, env, previous); err != nil {
		return err
	}
	rt.MaxFallbackBody = rt.Chain.BodyLimit()
	for _, reason := range f.When {
		rt.fallbackReasons = append(rt.fallbackReasons, events.Reason(reason))
	}
	return nil
}

// HasFallbackFor reports whether there is a fallback for reason. Any fallback can be tested.
func (rt *Route) HasFallbackFor(reason events.Reason) bool {
	return rt.Chain != nil && (reason == events.ReasonTest || slices.Contains(rt.fallbackReasons, reason))
}

// stateHeaders are the values of X-Circuit-Breaker-State, allocated once.
var stateHeaders = func() (values [len(events.States)][]string) {
	for _, s := range events.States {
		values[s] = []string{s.String()}
	}
	return values
}()

// SetStateFields sets the fields X-Circuit-Breaker-Service and X-Circuit-Breaker-State of a response.
func (rt *Route) SetStateFields(h http.Header, state events.State) {
	h["X-Circuit-Breaker-Service"] = rt.nameHeader
	h["X-Circuit-Breaker-State"] = stateHeaders[state]
}

// reasonHeaders are the values of X-Fallback-Reason, allocated once.
var reasonHeaders = func() map[events.Reason][]string {
	values := make(map[events.Reason][]string, len(events.Reasons)+1)
	for _, r := range append(events.Reasons[:], events.ReasonTest) {
		values[r] = []string{string(r)}
	}
	return values
}()

// SetFallbackFields sets the fields X-Fallback and X-Fallback-Reason of a response.
func SetFallbackFields(h http.Header, strategy string, reason events.Reason) {
	h["X-Fallback"], h["X-Fallback-Reason"] = []string{strategy}, reasonHeaders[reason]
}
