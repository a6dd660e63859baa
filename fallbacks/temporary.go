package fallbacks

import "cbproxy/internal/events"

// The factories of strategies that are still part of this package.
var (
	HTTPFactory     = Factory[HTTPOptions]{defaultHTTPOptions, newEndpoint, true}
	UpstreamFactory = Factory[UpstreamOptions]{defaultUpstreamOptions, newUpstream, true}
)

// BreakerState implements BreakerReporter.
func (u *secondUpstream) BreakerState() events.State { return u.gate.breaker.State() }

// Site is the previous name of Env.
type Site = Env
