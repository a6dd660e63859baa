package routes

import (
	"net/url"
	"time"
)

// Config is the whole of what the operator wrote, with defaults, environment and
// ${} expansion applied. A Config that Load returned is valid and is never modified:
// any number of goroutines may read it. Its Defaults are nil: they are in the routes.
//
// The yaml tag is a key's name. The valid tag bounds its value, the enum tag lists its
// values and the most tag bounds the length of a list; they are checked while the file is
// decoded, so that the fault can name its line. The JSON Schema is generated from these types,
// tags and comments.
type Config struct {
	// Address of the data plane: host:port or unix:///path. HTTP/1.1 and h2c share the port. Changing it needs a restart.
	Listen string `yaml:"listen"`
	// How clients of HTTP/1.1 are served: auto is by one goroutine a connection, which takes half the CPU time, as long as each request is at most 16 KiB long with its body, which comes with or right behind its header section, and leaves no room for interpretation; the first other request on a connection, and all that follow, and with net_http every one, are served by net/http's Server. Changing it needs a restart.
	Server string `yaml:"server" enum:"auto,net_http"`
	// How long requests in flight may take to finish after SIGTERM.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" valid:"positive"`
	// Folder of the embedded store, which keeps breakers and their history over a restart; "" keeps everything in memory. A relative path is from the folder the proxy was started in; what is missing is made at the start. One folder serves one proxy. Changing it needs a restart.
	DataDir string `yaml:"data_dir"`
	// Requests in flight in the whole proxy; 0 is no limit. Priority 3 may use 60 % of it, priority 2 80 %, priority 1 all (each rounded up). A request over its share is answered by the fallback with reason overload.
	MaxInFlight int `yaml:"max_in_flight" valid:"0..1000000"`
	// What a client may send, and how slowly.
	Limits Limits `yaml:"limits"`
	// A line for each request; off by default.
	AccessLog AccessLog `yaml:"access_log"`
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
	// Time a client has to send a request's header section, and the longest pause of one that still
	// sends its body after the answer. Changing it needs a restart.
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
	// TLS on the admin port. Its files are read for each connection, so that they can be rotated; changing their names needs a restart.
	TLS AdminTLS `yaml:"tls"`
	// Host names by which clients call the admin plane, beside IP addresses, names without a dot and those in private domains such as .svc, .internal and .local; "*" is any. Requests for another name are refused, as a page whose own name leads here could read all there is.
	Hosts []string `yaml:"hosts" valid:"host" most:"64"`

	// Token is CBPROXY_ADMIN_TOKEN, "" if it is not set.
	Token string `yaml:"-"`
}

// AdminTLS is the certificate of the admin port.
type AdminTLS struct {
	// PEM file with the certificate chain; "" is plain HTTP.
	CertFile string `yaml:"cert_file"`
	// PEM file with the private key.
	KeyFile string `yaml:"key_file"`
}

// Redis configures what instances share.
type Redis struct {
	// redis://user:password@host:6379/0, or rediss:// for TLS; "" is embedded only. A parameter master_name makes the host a Sentinel, redis+cluster:// a node of a Cluster; addr names another one, as often as need be. REDIS_URL overrides it. Changing it needs a restart.
	URL string `yaml:"url"`
	// How long a state outlives its last update. REDIS_CIRCUIT_BREAKER_TTL overrides it.
	TTL time.Duration `yaml:"ttl" valid:"1s.."`
	// What every key and channel begins with, literally: at most 64 bytes. Instances share what they find out with those of their namespace. Changing it needs a restart.
	Namespace string `yaml:"namespace" valid:"namespace"`
	// TLS to a rediss URL's servers, by TLS 1.2 or newer. Changing it needs a restart.
	TLS TLS `yaml:"tls"`
	// How instances learn from each other.
	Share Share `yaml:"share"`
}

// Share configures how instances learn from each other.
type Share struct {
	// Tell other instances, and listen to them.
	Enabled bool `yaml:"enabled"`
	// Instances that must find a failure before the others believe it.
	Quorum int `yaml:"quorum" valid:"1..1000000"`
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
	// Time for a whole exchange, its retries included; for a stream, up to its response headers.
	Timeout time.Duration `yaml:"timeout" valid:"positive"`
	// Longest silence of the upstream within a stream.
	IdleTimeout time.Duration `yaml:"idle_timeout" valid:"positive"`
	// 1 high to 3 low; under the whole proxy's max_in_flight the low ones are turned away first.
	Priority int `yaml:"priority" valid:"1..3"`
	// Bulkhead: requests of this service in flight; 0 is no limit. A request over it is answered by the fallback with reason overload, and is no verdict on the upstream.
	MaxInFlight int `yaml:"max_in_flight" valid:"0..1000000"`
	// A response known to be this small is read whole before the client sees a byte.
	ResponseBuffer Size `yaml:"response_buffer" valid:"0..64MiB"`
	// When a stream's response headers are sent: headers is as soon as they come, first_byte once the stream has said something, so that one that dies before is still answered by the fallback.
	StreamCommit string `yaml:"stream_commit" enum:"headers,first_byte"`
	// Silence after which a connection of HTTP/2 is asked for a sign of life by a PING, and ended if there is none within 5 s; 0 sends none. gRPC servers end connections that ask more often than every 5 minutes. Without it a connection whose peer is gone ends once nothing sent on it has been acknowledged for 15 s, and is left after a request has timed out on it without a byte from the peer.
	KeepalivePing time.Duration `yaml:"keepalive_ping" valid:"non-negative"`
	// How an HTTP/1.1 upstream is asked: auto is on the request's own goroutine, which is cheaper, where the request has no body or one of at most 16 KiB that says its length and has come already; all other requests, and with net_http every one, go through net/http's Transport.
	Transport string `yaml:"transport" enum:"auto,net_http"`
	// Retries of failed attempts, within timeout. A request's body is replayed up to 64 KiB; a request with a larger one is not retried.
	Retry Retry `yaml:"retry"`
	// TLS to an https upstream, by TLS 1.2 or newer. Files are read anew when they change: new connections use the new ones, and the last good ones stay in use while the new ones can't be used.
	TLS TLS `yaml:"tls"`
	// When the upstream is given up, and when it is tried again.
	Breaker Breaker `yaml:"breaker"`
	// Answer in the upstream's place when it can't.
	FallbackEnabled bool `yaml:"fallback_enabled"`
	// Name of the fallback; default the service's own name.
	Fallback string `yaml:"fallback"`
}

// Retry configures retries of failed attempts. Each attempt asks the breaker and reports to
// it; retries stop when it opens.
type Retry struct {
	// Attempts after the first; 0 is none.
	Attempts int `yaml:"attempts" valid:"0..20"`
	// Shortest wait before a retry. Waits are random between this and three times the last one (decorrelated jitter), at most max_backoff; a Retry-After of the upstream that is longer is waited for if timeout allows.
	Backoff time.Duration `yaml:"backoff" valid:"positive"`
	// Longest wait before a retry, save for a Retry-After of the upstream. At least backoff.
	MaxBackoff time.Duration `yaml:"max_backoff" valid:"positive"`
	// Retries allowed for each request: a token bucket gains this much with each request and pays 1 for each retry, so that retries never exceed this share of traffic; a quiet route starts with enough for the retries of one request.
	Budget float64 `yaml:"budget" valid:"0..1"`
	// Statuses that are retried, beside attempts that got no response.
	Statuses []int `yaml:"statuses" valid:"200..999" most:"100"`
	// Methods that are retried, in upper case.
	Methods []string `yaml:"methods" valid:"method" most:"32"`
	// Retry requests with an Idempotency-Key field whatever their method.
	IdempotencyKey bool `yaml:"idempotency_key"`
}

// TLS configures TLS to an https upstream or a rediss Redis; on others it has no effect. Files
// are paths, relative ones from the folder the proxy was started in.
type TLS struct {
	// PEM file with the authorities that may sign the server's certificate, in place of the system's; "" is the system's.
	CAFile string `yaml:"ca_file"`
	// PEM file with the client certificate, and what leads from it to its authority. Goes with key_file.
	CertFile string `yaml:"cert_file"`
	// PEM file with the client certificate's key. Goes with cert_file.
	KeyFile string `yaml:"key_file"`
	// Name to ask for (SNI) and to verify the server's certificate by; "" is the host of its URL.
	ServerName string `yaml:"server_name" valid:"server_name"`
	// Accept any certificate of the server. Anybody on the way can then read and change what is sent.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// Breaker configures a circuit breaker.
type Breaker struct {
	// enforce blocks; shadow records what it would have done and blocks nothing; off does nothing.
	Mode string `yaml:"mode" enum:"enforce,shadow,off"`
	// Consecutive failures that open; 0 is not used.
	FailMax int `yaml:"fail_max" valid:"0..1000000"`
	// Share of failures in window, 0 to 1, that opens; 0 is not used.
	FailureRatio float64 `yaml:"failure_ratio" valid:"0..1"`
	// Share of calls in window, 0 to 1, slower than slow_call_duration that opens; 0 is not used.
	SlowCallRatio float64 `yaml:"slow_call_ratio" valid:"0..1"`
	// What a slow call is: longer than this was the upstream awaited; for a stream, up to the response's header section.
	SlowCallDuration time.Duration `yaml:"slow_call_duration" valid:"positive"`
	// Calls in window below which no ratio opens.
	MinRequests int `yaml:"min_requests" valid:"1..1000000"`
	// Period that ratios look back on.
	Window time.Duration `yaml:"window" valid:"100ms..24h"`
	// How long the breaker is open before it probes.
	RecoveryTimeout time.Duration `yaml:"recovery_timeout" valid:"positive"`
	// Growth of recovery_timeout from one opening in a row to the next. The first opening lasts exactly recovery_timeout; growth and jitter apply from the second in a row on; the row ends once the breaker has stayed closed for recovery_timeout.
	RecoveryBackoff RecoveryBackoff `yaml:"recovery_backoff"`
	// Probes let through at once, and successes in a row needed to close.
	HalfOpenRequests int `yaml:"half_open_requests" valid:"1..1000000"`
	// Statuses that are failures: codes, "5xx", or "500-504".
	FailureStatuses Statuses `yaml:"failure_statuses"`
	// Names of server-sent events that mean failure inside a 200. A stream with any of them counts as one failure; streams with a Content-Encoding are not looked into.
	SSEErrorEvents []string `yaml:"sse_error_events" valid:"event_name" most:"32"`
	// gRPC status codes that are failures, by their names.
	GRPCFailureCodes []string `yaml:"grpc_failure_codes" enum:"CANCELLED,UNKNOWN,INVALID_ARGUMENT,DEADLINE_EXCEEDED,NOT_FOUND,ALREADY_EXISTS,PERMISSION_DENIED,RESOURCE_EXHAUSTED,FAILED_PRECONDITION,ABORTED,OUT_OF_RANGE,UNIMPLEMENTED,INTERNAL,UNAVAILABLE,DATA_LOSS,UNAUTHENTICATED" most:"32"`
	// A call that its client gave up without a response's header section after it had taken at least this long is a failure of type abandoned; 0s is never. It should be shorter than the callers' own timeout, and longer than any good response takes: clients that leave after that time can open the breaker.
	AbandonedAfter time.Duration `yaml:"abandoned_after" valid:"non-negative"`
	// A request of the proxy's own that tests recovery in place of users': while path is set, users' requests get the fallback until it has succeeded half_open_requests times.
	Probe Probe `yaml:"probe"`
}

// AccessLog configures the log of requests, which is apart from the proxy's own log.
type AccessLog struct {
	// Whether requests are logged.
	Enabled bool `yaml:"enabled"`
	// Where to: stdout, stderr, or the path of a file. A file is made with mode 0600 if it is missing, appended to, and opened anew with each reload and SIGHUP, so that it can be rotated.
	Destination string `yaml:"destination"`
	// Form of a line: json, or text (key=value).
	Format string `yaml:"format" enum:"json,text"`
	// Share of the uneventful requests that is logged, 0 to 1: those in which the upstream did its part at the first attempt, with a status below 500. All others are always logged: failures, rejections, fallbacks, retries, clients that left, and what reached no route.
	Sample float64 `yaml:"sample" valid:"0..1"`
	// Log the query strings, too, which may hold what is secret.
	Query bool `yaml:"query"`
}

// RecoveryBackoff configures how openings grow while recovery fails.
type RecoveryBackoff struct {
	// Factor from one opening in a row to the next; 1 is no growth.
	Multiplier float64 `yaml:"multiplier" valid:"1..1000"`
	// Longest opening that growth leads to. Below recovery_timeout it has no effect: no opening is shorter for it.
	Max time.Duration `yaml:"max" valid:"positive"`
	// Random share of an opening, 0 to 1, that is added or taken away, so that instances don't probe at the same moment.
	Jitter float64 `yaml:"jitter" valid:"0..1"`
}

// Probe configures an active recovery test.
type Probe struct {
	// What is asked for with GET, below the upstream's URL: a path, and a query if need be; "" is no probe. Success is a status from 200 to 399 that is not in failure_statuses.
	Path string `yaml:"path" valid:"probe_path"`
	// Time between probes.
	Interval time.Duration `yaml:"interval" valid:"positive"`
	// Time a probe may take.
	Timeout time.Duration `yaml:"timeout" valid:"positive"`
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
