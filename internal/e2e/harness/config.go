package harness

import "fmt"

// DeadUpstreamConfig configures a service svc whose upstream refuses connections.
const DeadUpstreamConfig = `routes: {svc: {prefix: /svc, upstream: "http://127.0.0.1:1", breaker: {fail_max: 2, recovery_timeout: 60}}}` + "\n"

// RouteConfig configures a service svc with the given timeout in seconds and a breaker that opens after three failures.
func RouteConfig(u *Upstream, timeout int) string {
	return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, timeout: %d, breaker: {fail_max: 3, recovery_timeout: 60}}}\n", u.URL(), timeout)
}

// RedisConfig configures a service svc with a timeout of one second, and Redis. redis and breaker are the keys of the
// sections of these names, in YAML flow syntax.
func RedisConfig(redis, upstream, breaker string) string {
	return fmt.Sprintf("redis: {%s}\nroutes:\n  svc: {prefix: /svc, upstream: %q, timeout: 1, breaker: {%s}}\n", redis, upstream, breaker)
}

// QueueConfig configures a service svc that queues requests while its upstream is unavailable. options are additional
// keys of the queue, in YAML flow syntax.
func QueueConfig(u *Upstream, options string) string {
	return QueueConfigWithBreaker(u, "fail_max: 2, recovery_timeout: 0.2", options)
}

// QueueConfigWithBreaker is QueueConfig with the given keys of the breaker section.
func QueueConfigWithBreaker(u *Upstream, breaker, options string) string {
	if options != "" {
		options = ", " + options
	}
	return fmt.Sprintf(`routes: {svc: {prefix: /svc, upstream: %s, timeout: 5, breaker: {%s}}}
fallbacks: {svc: {when: [open, half_open_limit, connect, timeout, reset, overload], try: [queue, static],
  queue: {body: {queued: true}, backoff: 0.05, max_backoff: 0.2%s}, static: {status: 503, body: {queued: false}, methods: []}}}
`, u.URL(), breaker, options)
}
