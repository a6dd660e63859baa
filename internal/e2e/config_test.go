package e2e

import (
	"fmt"
)

const deadUpstream = `routes: {svc: {prefix: /svc, upstream: "http://127.0.0.1:1", breaker: {fail_max: 2, recovery_timeout: 60}}}` + "\n"

func oneRoute(u *upstreamProcess, timeout int) string {
	return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, timeout: %d, breaker: {fail_max: 3, recovery_timeout: 60}}}\n", u.url(), timeout)
}

// sharing returns a configuration of one service, svc, with the given redis keys and breaker.
func sharing(redis, upstream, breaker string) string {
	return fmt.Sprintf("redis: {%s}\nroutes:\n  svc: {prefix: /svc, upstream: %q, timeout: 1, breaker: {%s}}\n", redis, upstream, breaker)
}

// queueRoute returns the configuration of a service svc that queues requests while its upstream is
// unavailable.
func queueRoute(u *upstreamProcess, options string) string {
	return queueRouteWith(u, "fail_max: 2, recovery_timeout: 0.2", options)
}

func queueRouteWith(u *upstreamProcess, breaker, options string) string {
	if options != "" {
		options = ", " + options
	}
	return fmt.Sprintf(`routes: {svc: {prefix: /svc, upstream: %s, timeout: 5, breaker: {%s}}}
fallbacks: {svc: {when: [open, half_open_limit, connect, timeout, reset, overload], try: [queue, static],
  queue: {body: {queued: true}, backoff: 0.05, max_backoff: 0.2%s}, static: {status: 503, body: {queued: false}}}}
`, u.url(), breaker, options)
}
