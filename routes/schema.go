package routes

import (
	"net/url"
	"time"
)

// Config is the whole of what the operator wrote, with defaults, environment and
// ${} expansion applied. A Config that Load returned is valid and is never modified:
// any number of goroutines may read it. Its Defaults are nil: they are in the routes.
//
// The yaml tag is a key's name. The valid tag bounds its value and the enum tag lists
// its values; both are checked while the file is decoded, so that the fault can name its
// line. The pending tag marks a key of the public interface whose feature is not built:
// it lists, separated by |, the only values that ask for what is there; any other value
// is refused by name. The JSON Schema is generated from these types, tags and comments.
type Config struct {
	// Address of the data plane: host:port or unix:///path. HTTP/1.1 and h2c share the port. Changing it needs a restart.
	Listen string `yaml:"listen"`
	// How long requests in flight may take to finish after SIGTERM.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" valid:"positive"`
	// Folder of the embedded store; "" keeps everything in memory.
	DataDir string `yaml:"data_dir" pending:""`
	// Requests in flight in the whole proxy; 0 is no limit.
	MaxInFlight int `yaml:"max_in_flight" valid:"non-negative" pending:"0"`
	// What a client may send, and how slowly.
	Limits Limits `yaml:"limits"`
	// The admin plane: API, health and metrics.
	Admin Admin `yaml:"admin"`
	// The optional Redis that instances share.
	Redis Redis `yaml:"redis"`
	// Any key of a route, inherited by every route.
	Defaults *Route `yaml:"defaults"`
	// The routes by service name.
	Routes map[string]*Route `yaml:"routes"`
	// The fallbacks by name; a route uses the one that has its service's name unless it says otherwise.
	Fallbacks map[string]*Fallback `yaml:"fallbacks"`

	// Hash identifies the content of the file this configuration was loaded from.
	Hash string `yaml:"-"`
}

// Limits bounds what a client may send.
type Limits struct {
	// Bytes of a request's header section; more is answered with 431. Changing it needs a restart.
	HeaderBytes Size `yaml:"header_bytes" valid:"1KiB..16MiB"`
	// Bytes of a request's body; more is answered with 413.
	BodyBytes Size `yaml:"body_bytes" valid:"positive"`
	// Time a client has to send a request's header section. Changing it needs a restart.
	ReadHeaderTimeout time.Duration `yaml:"read_header_timeout" valid:"positive"`
	// Time a connection may be idle between requests. Changing it needs a restart.
	IdleTimeout time.Duration `yaml:"idle_timeout" valid:"positive"`
}

// Admin configures the admin plane.
type Admin struct {
	// Address of the admin plane: host:port or unix:///path. Changing it needs a restart.
	Listen string `yaml:"listen"`
	// File with the bearer token for requests that change state; CBPROXY_ADMIN_TOKEN overrides it. With neither, such requests are answered with 403.
	TokenFile string `yaml:"token_file"`
	// Require the token for reads as well, except /healthz and /readyz.
	ProtectReads bool `yaml:"protect_reads"`
	// TLS on the admin port.
	TLS AdminTLS `yaml:"tls"`

	// Token is CBPROXY_ADMIN_TOKEN, "" if it is not set.
	Token string `yaml:"-"`
}

// AdminTLS is the certificate of the admin port.
type AdminTLS struct {
	// PEM file with the certificate chain.
	CertFile string `yaml:"cert_file" pending:""`
	// PEM file with the private key.
	KeyFile string `yaml:"key_file" pending:""`
}

// Redis configures what instances share.
type Redis struct {
	// redis://, rediss://, cluster or sentinel URL; "" is embedded only. REDIS_URL overrides it.
	URL string `yaml:"url" pending:""`
	// How long a state outlives its last update.
	TTL time.Duration `yaml:"ttl" valid:"positive" pending:"1h"`
	// Prefix of every key.
	Namespace string `yaml:"namespace" pending:""`
	// How instances learn from each other.
	Share Share `yaml:"share"`
}

// Share configures how instances learn from each other.
type Share struct {
	// Tell other instances, and listen to them.
	Enabled bool `yaml:"enabled" pending:"true|false"`
	// Instances that must find a failure before the others believe it.
	Quorum int `yaml:"quorum" valid:"1.." pending:"1"`
}

// Route is one service: the paths that lead to it, its upstream, and its breaker.
type Route struct {
	// Path prefix or list of prefixes, matched on whole segments; the longest wins.
	Prefix Prefixes `yaml:"prefix"`
	// Remove the prefix before the request goes upstream.
	StripPrefix bool `yaml:"strip_prefix"`
	// http, https or h2c URL; a path here is kept in front.
	Upstream Upstream `yaml:"upstream"`
	// Send the client's Host field upstream instead of the upstream's own.
	PreserveHost bool `yaml:"preserve_host"`
	// Time for a whole exchange; for a stream, up to its response headers.
	Timeout time.Duration `yaml:"timeout" valid:"positive"`
	// Longest silence of the upstream within a stream.
	IdleTimeout time.Duration `yaml:"idle_timeout" valid:"positive"`
	// 1 high to 3 low.
	Priority int `yaml:"priority" valid:"1..3"`
	// Requests of this service in flight; 0 is no limit.
	MaxInFlight int `yaml:"max_in_flight" valid:"non-negative" pending:"0"`
	// A response known to be this small is read whole before the client sees a byte.
	ResponseBuffer Size `yaml:"response_buffer" valid:"0..64MiB"`
	// When a stream's headers are sent: at once, or once it has said something.
	StreamCommit string `yaml:"stream_commit" enum:"headers,first_byte" pending:"headers"`
	// Retries of failed attempts.
	Retry Retry `yaml:"retry"`
	// TLS to the upstream.
	TLS TLS `yaml:"tls"`
	// When the upstream is given up, and when it is tried again.
	Breaker Breaker `yaml:"breaker"`
	// Answer in the upstream's place when it can't.
	FallbackEnabled bool `yaml:"fallback_enabled"`
	// Name of the fallback; default the service's own name.
	Fallback string `yaml:"fallback"`
}

// Retry configures retries of failed attempts.
type Retry struct {
	// Attempts after the first; 0 is none.
	Attempts int `yaml:"attempts" valid:"non-negative" pending:"0"`
	// Shortest wait before a retry.
	Backoff time.Duration `yaml:"backoff" valid:"positive" pending:"50ms"`
	// Longest wait before a retry.
	MaxBackoff time.Duration `yaml:"max_backoff" valid:"positive" pending:"1s"`
	// Largest share of retries in the route's traffic.
	Budget float64 `yaml:"budget" valid:"0..1" pending:"0.2"`
	// Statuses that are retried.
	Statuses []int `yaml:"statuses" valid:"200..999" pending:"[502, 503, 504]"`
	// Methods that are retried.
	Methods []string `yaml:"methods" pending:"[GET, HEAD, OPTIONS, PUT, DELETE]"`
	// Retry requests with an Idempotency-Key field whatever their method.
	IdempotencyKey bool `yaml:"idempotency_key"`
}

// TLS configures TLS to an upstream.
type TLS struct {
	// PEM file with the authorities that may sign the upstream's certificate.
	CAFile string `yaml:"ca_file" pending:""`
	// PEM file with the client certificate chain.
	CertFile string `yaml:"cert_file" pending:""`
	// PEM file with the client certificate's key.
	KeyFile string `yaml:"key_file" pending:""`
	// Name to ask for and to verify.
	ServerName string `yaml:"server_name" pending:""`
	// Accept any certificate.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify" pending:"false"`
}

// Breaker configures a circuit breaker.
type Breaker struct {
	// enforce blocks; shadow records what it would have done; off does nothing.
	Mode string `yaml:"mode" enum:"enforce,shadow,off" pending:"enforce"`
	// Consecutive failures that open; 0 is not used.
	FailMax int `yaml:"fail_max" valid:"0..1000000"`
	// Share of failures in window that opens; 0 is not used.
	FailureRatio float64 `yaml:"failure_ratio" valid:"0..1" pending:"0"`
	// Share of calls slower than slow_call_duration that opens; 0 is not used.
	SlowCallRatio float64 `yaml:"slow_call_ratio" valid:"0..1" pending:"0"`
	// What a slow call is.
	SlowCallDuration time.Duration `yaml:"slow_call_duration" valid:"positive" pending:"5s"`
	// Volume below which no ratio opens.
	MinRequests int `yaml:"min_requests" valid:"1.." pending:"20"`
	// Period that ratios look at.
	Window time.Duration `yaml:"window" valid:"positive" pending:"30s"`
	// How long the breaker is open before it probes.
	RecoveryTimeout time.Duration `yaml:"recovery_timeout" valid:"positive"`
	// Growth of recovery_timeout after each failed recovery.
	RecoveryBackoff RecoveryBackoff `yaml:"recovery_backoff"`
	// Probes let through at once, and successes in a row needed to close.
	HalfOpenRequests int `yaml:"half_open_requests" valid:"1..1000000"`
	// Statuses that are failures: codes, "5xx", or "500-504".
	FailureStatuses Statuses `yaml:"failure_statuses"`
	// Names of server-sent events that mean failure inside a 200.
	SSEErrorEvents []string `yaml:"sse_error_events" pending:"[]"`
	// gRPC codes that are failures.
	GRPCFailureCodes []string `yaml:"grpc_failure_codes" pending:"[]"`
	// A request of the proxy's own that tests recovery in place of users'.
	Probe Probe `yaml:"probe"`
}

// RecoveryBackoff configures how openings grow while recovery fails.
type RecoveryBackoff struct {
	// Factor after each failed recovery.
	Multiplier float64 `yaml:"multiplier" valid:"1.." pending:"1"`
	// Longest opening.
	Max time.Duration `yaml:"max" valid:"positive" pending:"10m"`
	// Random share added or taken away.
	Jitter float64 `yaml:"jitter" valid:"0..1" pending:"0|0.1"`
}

// Probe configures an active recovery test.
type Probe struct {
	// Path to ask for; "" is no probe.
	Path string `yaml:"path" pending:""`
	// Time between probes.
	Interval time.Duration `yaml:"interval" valid:"positive" pending:"5s"`
	// Time a probe may take.
	Timeout time.Duration `yaml:"timeout" valid:"positive" pending:"1s"`
}

// Fallback is what answers when an upstream can't.
type Fallback struct {
	// Reasons for which this fallback answers.
	When []string `yaml:"when" enum:"open,half_open_limit,connect,timeout,reset,overload,status"`
	// Strategies in order; the first that can answer does.
	Try []string `yaml:"try"`

	// Strategies holds the options of each strategy in Try by its name, of the types that
	// Loader.Strategies makes.
	Strategies map[string]any `yaml:",inline"`
}

// Upstream is a service's URL: scheme http, https or h2c, host, and an optional path without
// a slash at its end. In a loaded Config it is never nil and nobody modifies it.
type Upstream struct{ *url.URL }
