package soak

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// route is a configured route and the responses that clients may expect from it.
type route struct {
	service, prefix    string
	upstream           string // name of its upstream
	timeout            time.Duration
	strategies         []string // of its fallback chain
	statusFallback     bool     // the fallback applies to failing statuses of the upstream too
	staticFields       []string // fields of the static fallback's body
	retries            int      // of a GET request
	exactCounts        bool     // no client disconnects on this route, so that the counters must match exactly
	forcedIndefinitely bool     // operators force its breaker without a duration
}

// routes are the routes by service: the five built-in services, and routes with the features that those do not use.
var routes = withServiceNames(map[string]*route{
	"rag_service": {prefix: "/rag", upstream: "rag", timeout: 1500 * time.Millisecond, strategies: []string{"cache", "static"},
		staticFields: []string{"linked_explanation", "retrieved_context", "confidence_score", "fallback_reason"}},
	"rule_generation_service": {prefix: "/rules", upstream: "rules", timeout: 1200 * time.Millisecond, strategies: []string{"static"}, exactCounts: true,
		staticFields: []string{"rules_triggered", "severity", "confidence", "explanation", "fallback_reason"}},
	"notifier_service": {prefix: "/notify", upstream: "notify", timeout: time.Second, strategies: []string{"queue", "static"},
		staticFields: []string{"notification_queued", "status", "message", "retry_scheduled"}},
	"vms_service": {prefix: "/vms", upstream: "vms", timeout: 2 * time.Second, strategies: []string{"static"}, retries: 2, forcedIndefinitely: true,
		staticFields: []string{"status", "cameras", "fallback_reason"}},
	"prediction_service": {prefix: "/predict", upstream: "predict", timeout: time.Second, strategies: []string{"static"}, exactCounts: true,
		staticFields: []string{"predictions", "confidence", "fallback_reason"}},
	"media":  {prefix: "/media", upstream: "media", timeout: 1500 * time.Millisecond},
	"calls":  {prefix: "/soak.Echo", upstream: "media", timeout: 1500 * time.Millisecond},
	"shadow": {prefix: "/shadow", upstream: "predict", timeout: time.Second},
	"drafts": {prefix: "/drafts", upstream: "rules", timeout: time.Second, strategies: []string{"template"}},
	"backup": {prefix: "/backup", upstream: "rag", timeout: time.Second, strategies: []string{"upstream", "static"}, statusFallback: true, staticFields: []string{"unavailable"}},
})

// upstreamNames are the names of the upstreams. The secondary upstream is used by the fallback of backup only.
var upstreamNames = []string{"rag", "rules", "notify", "vms", "predict", "media", secondaryUpstream}

const secondaryUpstream = "secondary"

// withServiceNames sets the service of each route to its key.
func withServiceNames(all map[string]*route) map[string]*route {
	for service, r := range all {
		r.service = service
	}
	return all
}

// config returns version n of the configuration. Versions differ in several keys; versionTimeout identifies each.
func (s *soakTest) config(n int) string {
	extra := ""
	if n%2 == 1 {
		extra = "  extra: {prefix: /extra, upstream: 'http://127.0.0.1:1'}\n"
	}
	pick := func(values ...string) string { return values[n%len(values)] }
	text := strings.NewReplacer(
		"$REDIS", s.redis.URL(), "$FAIL_MAX", pick("4", "3", "5"), "$PROBES", pick("1", "2"), "$MODE", pick("shadow", "shadow", "shadow", "off"),
		"$COMMIT", pick("headers", "first_byte"), "$ENTRIES", pick("400", "400", "300"), "$LOG", pick("false", "true"), "$VERSION", fmt.Sprintf("2.%04d", n), "$EXTRA", extra,
	).Replace(`shutdown_timeout: 4
max_in_flight: 300
limits: {body_bytes: 1MiB, header_bytes: 16KiB}
access_log: {enabled: $LOG, destination: /dev/null, sample: 0.1}
redis: {url: "$REDIS", namespace: "soak:", ttl: 600}
routes:
  rag_service: {upstream: "$rag", timeout: 1.5, breaker: {fail_max: $FAIL_MAX, half_open_requests: $PROBES, recovery_timeout: 0.5, recovery_backoff: {multiplier: 1.5, max: 1.5}}}
  rule_generation_service: {upstream: "$rules", timeout: 1.2, breaker: {failure_ratio: 0.5, slow_call_ratio: 0.8, slow_call_duration: 0.5, min_requests: 10, window: 2, recovery_timeout: 0.5}}
  notifier_service: {upstream: "$notify", timeout: 1, breaker: {fail_max: $FAIL_MAX, recovery_timeout: 0.5}}
  vms_service: {upstream: "$vms", timeout: $VERSION, max_in_flight: 6, retry: {attempts: 2, backoff: 5ms, max_backoff: 50ms}, breaker: {recovery_timeout: 0.5}}
  prediction_service: {upstream: "$predict", timeout: 1, breaker: {recovery_timeout: 0.4, half_open_requests: 2, probe: {path: /healthy, interval: 0.2, timeout: 0.5}}}
  media: {prefix: /media, upstream: "$media", timeout: 1.5, idle_timeout: 1, stream_commit: $COMMIT, breaker: {fail_max: 5, recovery_timeout: 0.4}}
  calls: {prefix: /soak.Echo, strip_prefix: false, upstream: "h2c$without_http_media", timeout: 1.5, idle_timeout: 1, breaker: {fail_max: 5, recovery_timeout: 0.4}}
  shadow: {prefix: /shadow, upstream: "$predict", timeout: 1, breaker: {mode: $MODE, fail_max: 3, recovery_timeout: 0.4}}
  drafts: {prefix: /drafts, upstream: "$rules", timeout: 1, breaker: {fail_max: 3, recovery_timeout: 0.4}}
  backup: {prefix: [/backup, /reserve], upstream: "$rag", timeout: 1, breaker: {fail_max: 3, recovery_timeout: 0.4}}
$EXTRAfallbacks:
  rag_service: {try: [cache, static], cache: {max_entries: $ENTRIES, vary: [Authorization]}}
  notifier_service: {queue: {backoff: 0.05, max_backoff: 0.5, max_attempts: 100000}}
  drafts: {when: [open, half_open_limit, connect, timeout, reset, overload], try: [template],
    template: {body: {id: "{{header \"X-Soak-Id\"}}", reason: "{{reason}}", n: "{{json \"n\"}}"}}}
  backup: {when: [open, half_open_limit, connect, timeout, reset, overload, status], try: [upstream, static],
    upstream: {url: "$secondary", timeout: 1, breaker: {recovery_timeout: 0.4}}, static: {status: 503, body: {unavailable: true}}}
`)
	for name, u := range s.upstreams {
		text = strings.ReplaceAll(text, "$"+name, u.URL())
		text = strings.ReplaceAll(text, "$without_http_"+name, strings.TrimPrefix(u.URL(), "http"))
	}
	return text
}

// invalidConfig returns a configuration that the proxy must reject.
func (s *soakTest) invalidConfig(r *rand.Rand, n int) string {
	text := s.config(n)
	switch r.IntN(4) {
	case 0:
		return text + "bogus: 1\n"
	case 1:
		return strings.Replace(text, "timeout: 2.", "timeout: -2.", 1)
	case 2:
		return text[:len(text)/2] + "\n }"
	}
	return strings.Replace(text, "upstream:", "upsteam:", 1)
}

// versionTimeout returns the timeout of vms_service, in seconds, in version n of the configuration.
func versionTimeout(n int) float64 { return 2 + float64(n)/10_000 }
