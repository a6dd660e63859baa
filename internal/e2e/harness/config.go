package harness

import (
	"fmt"
)

// DeadUpstreamConfig is the configuration of a service svc whose upstream refuses connections.
const DeadUpstreamConfig = `routes: {svc: {prefix: /svc, upstream: "http://127.0.0.1:1", breaker: {fail_max: 2, recovery_timeout: 60}}}` + "\n"

// RouteConfig returns the configuration of a service svc with the given timeout in seconds.
func RouteConfig(u *Upstream, timeout int) string {
	return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, timeout: %d, breaker: {fail_max: 3, recovery_timeout: 60}}}\n", u.URL(), timeout)
}

// RedisConfig returns a configuration of one service, svc, with the given redis keys and breaker.
func RedisConfig(redis, upstream, breaker string) string {
	return fmt.Sprintf("redis: {%s}\nroutes:\n  svc: {prefix: /svc, upstream: %q, timeout: 1, breaker: {%s}}\n", redis, upstream, breaker)
}

// QueueConfig returns the configuration of a service svc that queues requests while its upstream is
// unavailable.
func QueueConfig(u *Upstream, options string) string {
	return QueueConfigWithBreaker(u, "fail_max: 2, recovery_timeout: 0.2", options)
}

// QueueConfigWithBreaker is QueueConfig with other keys of the breaker.
func QueueConfigWithBreaker(u *Upstream, breaker, options string) string {
	if options != "" {
		options = ", " + options
	}
	return fmt.Sprintf(`routes: {svc: {prefix: /svc, upstream: %s, timeout: 5, breaker: {%s}}}
fallbacks: {svc: {when: [open, half_open_limit, connect, timeout, reset, overload], try: [queue, static],
  queue: {body: {queued: true}, backoff: 0.05, max_backoff: 0.2%s}, static: {status: 503, body: {queued: false}}}}
`, u.URL(), breaker, options)
}
