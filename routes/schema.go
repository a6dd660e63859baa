// Package routes defines the configuration: its types and defaults, Loader, which turns a file into a
// Config or reports every fault with its line, the JSON Schema, and Diff.
//
// A file is loaded in steps, each of which adds its faults to one list and continues: the content is
// parsed and flattened (package strictyaml), values are decoded on top of their defaults according to
// the tags of the types, environment variables override them, and the result is validated.
package routes

import (
	"net/url"
	"time"

	"cbproxy/internal/expression"
	"cbproxy/internal/strictyaml"
)

// Config is a complete configuration: the file with defaults, environment variables and ${} references
// applied. A Config that Load returned is valid and is never modified, so it is safe for concurrent
// use. Its Defaults are nil: they are merged into the routes.
//
// The yaml tag is the name of a key. The valid tag bounds its value, the enum tag lists the allowed
// values and the most tag limits the length of a list. They are checked while the file is decoded, so
// that a fault has a line. The JSON Schema is generated from these types, tags and comments.
type Config struct {
	// Address of the data plane: host:port or unix:///path?mode=0660&group=NAME. HTTP/1.1 and h2c share the port. A socket that systemd passes with the name listen takes precedence. Changing it needs a restart.
	Listen string `yaml:"listen"`
	// Server for HTTP/1.1 clients. auto serves a connection on one goroutine, at half the CPU time, while each request is unambiguous and at most 16 KiB long including a body that arrives with its header section; the first other request on the connection and all later ones are served by net/http. net_http serves all requests by net/http. Changing it needs a restart.
	Server string `yaml:"server" enum:"auto,net_http"`
	// How long requests in flight may take to finish after SIGTERM.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" valid:"positive"`
	// Folder of the embedded store, which keeps breaker state and history across restarts; "" keeps everything in memory. A relative path starts at the working directory; missing folders are created at startup. Each proxy needs its own folder. Changing it needs a restart.
	DataDir string `yaml:"data_dir"`
	// Requests in flight in the whole proxy; 0 is no limit. Priority 3 may use 60 % of it, priority 2 80 %, priority 1 all (each rounded up). A request over its share is answered by the fallback with reason overload.
	MaxInFlight int `yaml:"max_in_flight" valid:"0..1000000"`
	// Limits on the size and duration of client requests.
	Limits Limits `yaml:"limits"`
	// One log line for each request; off by default.
	AccessLog AccessLog `yaml:"access_log"`
	// Record of the calls to each upstream, on which thresholds can be tried.
	Outcomes Outcomes `yaml:"outcomes"`
	// Admin API, health and metrics.
	Admin Admin `yaml:"admin"`
	// Redis that instances share; optional.
	Redis Redis `yaml:"redis"`
	// Defaults for the keys of all routes.
	Defaults *Route `yaml:"defaults"`
	// Routes by service name.
	Routes map[string]*Route `yaml:"routes"`
	// Fallbacks by name; by default a route uses the one with its service's name.
	Fallbacks map[string]*Fallback `yaml:"fallbacks"`

	// Hash identifies the content of the file this configuration was loaded from, and the values that WithRoute has changed.
	Hash string `yaml:"-"`

	file         string                      // name of the file
	listenPlaces map[string]strictyaml.Place // positions of the listen addresses by key, such as routes.rag_service.listen
}

// Limits limits the size and duration of client requests.
type Limits struct {
	// Bytes of a request's header section; more is answered with 431. Changing it needs a restart.
	HeaderBytes Size `yaml:"header_bytes" valid:"1KiB..16MiB"`
	// Bytes of a request's body; more is answered with 413.
	BodyBytes Size `yaml:"body_bytes" valid:"positive"`
	// Time limit for a request's header section, and longest pause of a client that is still sending its body after the response. Changing it needs a restart.
	ReadHeaderTimeout time.Duration `yaml:"read_header_timeout" valid:"positive"`
	// Time a connection may be idle between requests. Changing it needs a restart.
	IdleTimeout time.Duration `yaml:"idle_timeout" valid:"positive"`
}

// Outcomes configures the record of calls.
type Outcomes struct {
	// Record when each call was asked for, its result and its duration, but nothing of the request itself. It takes 16 bytes for each call, in data_dir, or in memory without one.
	Enabled bool `yaml:"enabled"`
	// Size of the record of each service. A new call replaces the oldest ones.
	MaxBytes Size `yaml:"max_bytes" valid:"64KiB..1GiB"`
	// Age from which on calls are not shown any more.
	MaxAge time.Duration `yaml:"max_age" valid:"1m.."`
}

// Admin configures the admin listener.
type Admin struct {
	// Address of the admin listener: host:port or unix:///path?mode=0660&group=NAME. A socket that systemd passes with the name admin takes precedence. Changing it needs a restart.
	Listen string `yaml:"listen"`
	// File with the bearer token for requests that change state; CBPROXY_ADMIN_TOKEN overrides it. With neither, such requests are answered with 403.
	TokenFile string `yaml:"token_file"`
	// Require the token for reads as well, except /healthz and /readyz.
	ProtectReads bool `yaml:"protect_reads"`
	// TLS on the admin port. The files are reloaded when they change; changing their names needs a restart.
	TLS AdminTLS `yaml:"tls"`
	// Host names accepted in admin requests, in addition to IP addresses, names without a dot and private domains such as .svc, .internal and .local; "*" accepts all. Other names are rejected to prevent DNS rebinding.
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

// Redis configures the Redis that instances share.
type Redis struct {
	// redis://user:password@host:6379/0, or rediss:// for TLS; "" uses the embedded store only. With the parameter master_name the host is a Sentinel, with redis+cluster:// a node of a Cluster; each parameter addr adds another one. REDIS_URL overrides it. Changing it needs a restart.
	URL string `yaml:"url"`
	// Time after its last update until a stored state expires. REDIS_CIRCUIT_BREAKER_TTL overrides it.
	TTL time.Duration `yaml:"ttl" valid:"1s.."`
	// Prefix of every key and channel, at most 64 bytes. Only instances with the same namespace share breaker state. Changing it needs a restart.
	Namespace string `yaml:"namespace" valid:"namespace"`
	// TLS to a rediss URL's servers, by TLS 1.2 or newer. Changing it needs a restart.
	TLS TLS `yaml:"tls"`
	// Sharing of breaker state between instances.
	Share Share `yaml:"share"`
}

// Share configures the sharing of breaker state between instances.
type Share struct {
	// Share breaker state with other instances.
	Enabled bool `yaml:"enabled"`
	// Number of instances that must open a breaker on their own before the other instances open theirs.
	Quorum int `yaml:"quorum" valid:"1..1000000"`
}

// Route is one service: its path prefixes, its upstream and its breaker.
type Route struct {
	// Path prefix or list of prefixes, matched on whole segments; the longest wins. With listen it may be missing, or the empty list for a built-in service: the service is then reachable on its own listener only.
	Prefix Prefixes `yaml:"prefix"`
	// Own listener of this service, in addition to its prefix: host:port or unix:///path?mode=0660&group=NAME. Every path on it belongs to the service and is forwarded as it is. "" is none. Changes take effect without a restart.
	Listen string `yaml:"listen"`
	// Remove the prefix from the path of the upstream request.
	StripPrefix bool `yaml:"strip_prefix"`
	// http, https or h2c URL of the upstream server, or list of 1 to 64 such URLs, the endpoints (docs/endpoints.md). The path of a URL is prepended to the path of requests. With dns+ before a URL, as in dns+http://rag-headless:8000, each address of its host name is an endpoint; the name is looked up again every balance.resolve.
	Upstream Endpoints `yaml:"upstream"`
	// Choice of an endpoint for each attempt, if there are several.
	Balance Balance `yaml:"balance"`
	// Send the client's Host field instead of the upstream's host.
	PreserveHost bool `yaml:"preserve_host"`
	// In the Location and Content-Location of a response, replace the upstream's own origin by the path that leads through the proxy, and add the prefix that was stripped, so that redirects do not bypass the proxy. Other addresses are not changed.
	RewriteLocation bool `yaml:"rewrite_location"`
	// Time limit for a request including its retries; for a stream, until the response headers.
	Timeout time.Duration `yaml:"timeout" valid:"positive"`
	// Time limit for each attempt, within timeout; for a stream, until the response headers. Waiting for the client's body is not counted. An attempt that takes longer fails with the type timeout and may be retried. 0 is no limit.
	AttemptTimeout time.Duration `yaml:"attempt_timeout" valid:"non-negative"`
	// Longest time without data from the upstream in a stream.
	IdleTimeout time.Duration `yaml:"idle_timeout" valid:"positive"`
	// Limits for streams that stay open and deliver too little.
	Stream Stream `yaml:"stream"`
	// Priority from 1 (high) to 3 (low): requests of low priority are rejected first when the proxy approaches max_in_flight.
	Priority int `yaml:"priority" valid:"1..3"`
	// Bulkhead: limit of this service's requests in flight; 0 is no limit, auto finds one from 4 to 200 (docs/limits.md). A request over the limit is answered by the fallback with reason overload and does not count for the breaker.
	MaxInFlight strictyaml.OrAuto[int] `yaml:"max_in_flight" valid:"0..1000000"`
	// A response with a known length up to this size is read completely before the client receives a byte.
	ResponseBuffer Size `yaml:"response_buffer" valid:"0..64MiB"`
	// When a stream's response headers are sent: headers sends them at once, first_byte after the first byte of the body, so that the fallback can still answer for a stream that fails before.
	StreamCommit string `yaml:"stream_commit" enum:"headers,first_byte"`
	// Idle time after which an HTTP/2 connection is checked with a PING; it is closed without a reply within 5 s. 0 sends no PINGs. gRPC servers close connections with PINGs more often than every 5 minutes. Without PINGs a connection to a dead peer is closed when sent data is not acknowledged for 15 s, and is not reused after a request timed out on it without a byte from the peer.
	KeepalivePing time.Duration `yaml:"keepalive_ping" valid:"non-negative"`
	// Client for HTTP/1.1 upstreams. auto sends a request on its own goroutine, which costs less, if it has no body or one of known length up to 16 KiB that has already arrived; other requests use the Transport of net/http. net_http uses it for all requests.
	Transport string `yaml:"transport" enum:"auto,net_http"`
	// Retries of failed attempts, within timeout. A request's body is replayed up to 64 KiB; a request with a larger one is not retried.
	Retry Retry `yaml:"retry"`
	// A second attempt while the first one has no response yet; the response that comes first is used.
	Hedge Hedge `yaml:"hedge"`
	// TLS to an https upstream, version 1.2 or newer. Files are reloaded when they change and are used for new connections. If they cannot be loaded, the previous certificates stay in use.
	TLS TLS `yaml:"tls"`
	// Conditions under which the breaker opens and closes.
	Breaker Breaker `yaml:"breaker"`
	// Answer by the fallback if the upstream cannot.
	FallbackEnabled bool `yaml:"fallback_enabled"`
	// Name of the fallback; the default is the service's name.
	Fallback string `yaml:"fallback"`
	// Answer a request with the field "X-Fallback-Test: 1" by the fallback, whatever the state of the breaker and for any when of the fallback. Such a request is not sent upstream and counts for nothing; the access log and the traces have it with the reason test. Every client of the route can send it.
	FallbackTest bool `yaml:"fallback_test"`
}

// Retry configures retries of failed attempts; there are none while the breaker is open. With one endpoint, each
// attempt needs the breaker's permission and is reported to it. With several, a request counts once for the
// breaker, by the outcome of its last attempt.
type Retry struct {
	// Attempts after the first; 0 is none.
	Attempts int `yaml:"attempts" valid:"0..20"`
	// Shortest wait before a retry. Waits are random between this and three times the last one (decorrelated jitter), at most max_backoff; a longer Retry-After of the upstream is respected if timeout allows.
	Backoff time.Duration `yaml:"backoff" valid:"positive"`
	// Longest wait before a retry, except for a Retry-After of the upstream. At least backoff.
	MaxBackoff time.Duration `yaml:"max_backoff" valid:"positive"`
	// Retries as a share of requests: each request adds this many tokens to a bucket and each retry removes one, so that retries do not exceed this share of traffic. The bucket starts with enough tokens for the retries of one request.
	Budget float64 `yaml:"budget" valid:"0..1"`
	// Statuses that are retried, in addition to attempts without a response.
	Statuses []int `yaml:"statuses" valid:"200..999" most:"100"`
	// Methods that are retried, in upper case.
	Methods []string `yaml:"methods" valid:"method" most:"32"`
	// Retry requests with an Idempotency-Key field whatever their method.
	IdempotencyKey bool `yaml:"idempotency_key"`
}

// Balance configures the choice of an endpoint for each attempt. It has no effect if a service has one endpoint.
type Balance struct {
	// least_in_flight chooses two endpoints at random, and of these the one with fewer attempts in flight; round_robin chooses one after the other. With both, a retry goes to an endpoint that the request has not been sent to, if there is one.
	Policy string `yaml:"policy" enum:"least_in_flight,round_robin"`
	// Ejection of endpoints that fail: they get no requests for some time.
	Eject Eject `yaml:"eject"`
	// Time between two lookups of the host name of a URL with dns+. The name in another URL is looked up for each new connection.
	Resolve time.Duration `yaml:"resolve" valid:"100ms.."`
}

// Eject configures the ejection of endpoints that fail. The only endpoint of a service is never ejected.
type Eject struct {
	// Consecutive failures of an endpoint that eject it; 0 ejects none.
	FailMax int `yaml:"fail_max" valid:"0..1000000"`
	// Duration of the first ejection in a row; the second one lasts twice as long, the third one three times, and none more than ten times. After it one request is sent to the endpoint: a success ends the ejection, a failure begins the next one.
	Time time.Duration `yaml:"time" valid:"positive"`
	// Largest share of the endpoints, 0 to 1, that is ejected at once. Their number is rounded up, but at least one endpoint is not ejected. 0 ejects none.
	MaxRatio float64 `yaml:"max_ratio" valid:"0..1"`
}

// Hedge configures a second attempt for requests that are answered slowly. A request gets one if retry.methods or
// retry.idempotency_key allow retries of it, within retry.budget, and only while the breaker is closed.
type Hedge struct {
	// Time without response headers of the first attempt after which a second one is sent, to another endpoint if there is one. 0 sends none.
	After time.Duration `yaml:"after" valid:"non-negative"`
	// Largest share of the requests, 0 to 1, for which a second attempt is sent. 0 sends none.
	MaxRatio float64 `yaml:"max_ratio" valid:"0..1"`
}

// Stream configures limits for streams that stay open and deliver too little. Time in which the client does not
// accept data is not counted.
type Stream struct {
	// Time limit from the response headers to the first server-sent event with data or, in another stream, to the first byte. Comments and events named ping do not end it. A stream that exceeds it is a failure of type idle; with stream_commit first_byte the fallback can still answer. 0 is no limit.
	FirstEventTimeout time.Duration `yaml:"first_event_timeout" valid:"non-negative"`
	// Smallest rate of a stream's content in bytes per second over window, once there is content. A stream with a lower rate is cut and is a failure of type slow_stream. 0 is no limit.
	MinBytesPerSecond int `yaml:"min_bytes_per_second" valid:"0..1000000000"`
	// Time over which the rate for min_bytes_per_second is averaged.
	Window time.Duration `yaml:"window" valid:"100ms..24h"`
}

// TLS configures TLS to an https upstream or a rediss Redis; it has no effect on other schemes.
// Relative paths start at the working directory.
type TLS struct {
	// PEM file with the authorities that verify the server's certificate; "" uses those of the system.
	CAFile string `yaml:"ca_file"`
	// PEM file with the client certificate and its intermediate certificates. Requires key_file.
	CertFile string `yaml:"cert_file"`
	// PEM file with the client certificate's private key. Requires cert_file.
	KeyFile string `yaml:"key_file"`
	// Server name for SNI and for verification of the server's certificate; "" is the host of its URL.
	ServerName string `yaml:"server_name" valid:"server_name"`
	// Accept any certificate of the server. An attacker on the network can then read and change all data.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// Breaker configures a circuit breaker.
type Breaker struct {
	// enforce rejects requests while open; shadow only records the decisions it would make; off disables the breaker.
	Mode string `yaml:"mode" enum:"enforce,shadow,off"`
	// Algorithm that opens the breaker, beside fail_max: ratio uses failure_ratio and slow_call_ratio in window, count the same ratios over a number of calls, budget the burn rate of an error budget, expression an expression; throttle never opens it, but rejects a share of the calls.
	Algorithm string `yaml:"algorithm"`
	// Consecutive failures that open the breaker; 0 disables the condition.
	FailMax int `yaml:"fail_max" valid:"0..1000000" tune:"2 3 4 5 7 10 15 20 30 50"`
	// Failure rate in window, 0 to 1, that opens the breaker; 0 disables the condition.
	FailureRatio float64 `yaml:"failure_ratio" valid:"0..1" tune:"0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9"`
	// Rate of calls in window, 0 to 1, slower than slow_call_duration that opens the breaker; 0 disables the condition.
	SlowCallRatio float64 `yaml:"slow_call_ratio" valid:"0..1" tune:"0 0.2 0.4 0.6 0.8"`
	// Wait for the upstream from which a call is slow; for a stream, until the response headers. auto: three times the p99 learnt of healthy calls, from 100ms to 0.8 of timeout.
	SlowCallDuration strictyaml.OrAuto[time.Duration] `yaml:"slow_call_duration" valid:"positive"`
	// Smallest number of calls for failure_ratio and slow_call_ratio to apply: in window, with the algorithm count among the last calls. With the algorithm budget, that of calls in budget.short.
	MinRequests int `yaml:"min_requests" valid:"1..1000000" tune:"3 5 10 20 50 100"`
	// Sliding window of failure_ratio and slow_call_ratio, and of the algorithms throttle and expression. count and budget do not use it.
	Window time.Duration `yaml:"window" valid:"100ms..24h" tune:"5s 10s 30s 1m 2m 5m"`
	// Time the breaker stays open before it becomes half-open.
	RecoveryTimeout time.Duration `yaml:"recovery_timeout" valid:"positive" tune:"1s 2s 5s 10s 15s 30s 1m 2m"`
	// Growth of the open period while recovery fails. The first open period lasts exactly recovery_timeout; growth and jitter apply from the second consecutive one on. The count restarts after the breaker has stayed closed for recovery_timeout.
	RecoveryBackoff RecoveryBackoff `yaml:"recovery_backoff"`
	// Time after closing during which a growing share of the calls is sent to the upstream: the elapsed part of this time, at least a tenth. The others get the fallback with reason recovering. 0s sends all calls at once.
	RecoveryRamp time.Duration `yaml:"recovery_ramp" valid:"non-negative"`
	// Opening by responses that ask for no request before a time.
	RetryAfter RetryAfter `yaml:"retry_after"`
	// Opening by more failures than are likely for what was learnt of the upstream while it was healthy: earlier than fail_max and the algorithm, never later.
	Adaptive Adaptive `yaml:"adaptive"`
	// Limit of concurrent probes while half-open, and number of consecutive successes that close the breaker.
	HalfOpenRequests int `yaml:"half_open_requests" valid:"1..1000000"`
	// Statuses that count as failures: codes, "5xx", or "500-504".
	FailureStatuses Statuses `yaml:"failure_statuses"`
	// Statuses that count neither as success nor as failure, in the same form. They take precedence over failure_statuses.
	IgnoreStatuses Statuses `yaml:"ignore_statuses"`
	// Expression on a response whose status is no failure: if it is true, the response is a failure of type expression. It passes through unless when of the fallback contains status. Variables and functions: status, grpc_status, header('NAME'), json('PATH').
	FailureWhen expression.FailureWhenText `yaml:"failure_when"`
	// Names of server-sent events that mark a stream with status 200 as a failure. Streams with a Content-Encoding are not scanned.
	SSEErrorEvents []string `yaml:"sse_error_events" valid:"event_name" most:"32"`
	// Names of gRPC status codes that count as failures.
	GRPCFailureCodes []string `yaml:"grpc_failure_codes" enum:"CANCELLED,UNKNOWN,INVALID_ARGUMENT,DEADLINE_EXCEEDED,NOT_FOUND,ALREADY_EXISTS,PERMISSION_DENIED,RESOURCE_EXHAUSTED,FAILED_PRECONDITION,ABORTED,OUT_OF_RANGE,UNIMPLEMENTED,INTERNAL,UNAVAILABLE,DATA_LOSS,UNAUTHENTICATED" most:"32"`
	// A call that the client cancels before the response headers after at least this time is a failure of type abandoned; 0s disables it. Set it below the timeout of the clients and above the time of any good response: clients that cancel after this time can open the breaker.
	AbandonedAfter time.Duration `yaml:"abandoned_after" valid:"non-negative"`
	// Active probe that tests recovery instead of client requests: if path or grpc is set, client requests get the fallback until the probe has succeeded half_open_requests times.
	Probe Probe `yaml:"probe"`
	// Breakers within the service's, one for each value of a header field of requests, such as that of a tenant or a model.
	By By `yaml:"by"`

	// Algorithms has the options of Algorithm by its name, of the type that Loader.Algorithms returns; it is empty if there are none.
	Algorithms map[string]any `yaml:",inline"`
}

// RetryAfter configures the opening of a breaker by Retry-After fields.
type RetryAfter struct {
	// Statuses of the responses whose Retry-After, in seconds or as a date, is respected. Such a response is no failure.
	Statuses Statuses `yaml:"statuses"`
	// Consecutive such responses that open the breaker until the latest time that they name; 0 disables it.
	After int `yaml:"after" valid:"0..1000000"`
	// Longest opening.
	Max time.Duration `yaml:"max" valid:"positive"`
}

// Adaptive configures the opening of a breaker by failures that are unlikely for a healthy upstream.
type Adaptive struct {
	// off learns nothing; shadow learns, and only reports when the breaker would open; enforce opens it.
	Mode string `yaml:"mode" enum:"off,shadow,enforce"`
	// Probability of a false alarm each time that failures begin: evidence for a fault is complete when it is less likely than this that the upstream is healthy. May be written with an exponent, such as 1e-8.
	FalseAlarm float64 `yaml:"false_alarm" valid:"1e-30..0.1"`
	// Failure ratio, since the failures began, below which the breaker is not opened.
	MinRatio float64 `yaml:"min_ratio" valid:"0..1"`
	// Number of calls, since the failures began, before which the breaker is not opened, so that a short burst does not open it; 0 is no limit. A row of failures that is complete evidence by itself opens it at any time.
	MinCalls int `yaml:"min_calls" valid:"0..1000000"`
	// Smallest failure ratio that a healthy upstream is assumed to have.
	Floor float64 `yaml:"floor" valid:"0.0001..0.2"`
	// Failure ratio above which an hour is ignored: it does not change what a healthy upstream is.
	Cap float64 `yaml:"cap" valid:"0..1"`
	// Calls and time that are learnt before the breaker is opened.
	Warmup Warmup `yaml:"warmup"`
}

// Warmup configures what is learnt before a breaker is opened by it. Both conditions have to be met.
type Warmup struct {
	// Smallest number of calls.
	Calls int `yaml:"calls" valid:"0..1000000"`
	// Shortest time.
	Time time.Duration `yaml:"time" valid:"non-negative"`
}

// AccessLog configures the request log, which is separate from the proxy's log.
type AccessLog struct {
	// Log requests.
	Enabled bool `yaml:"enabled"`
	// stdout, stderr, or the path of a file. A missing file is created with mode 0600. Lines are appended. The file is reopened at each reload and SIGHUP, so that it can be rotated.
	Destination string `yaml:"destination"`
	// Format of a line: json, or text (key=value).
	Format string `yaml:"format" enum:"json,text"`
	// Share of successful requests that is logged, 0 to 1: those that the upstream answered at the first attempt with a status below 500. All other requests are always logged: failures, rejections, fallbacks, retries, cancelled requests and those without a route.
	Sample float64 `yaml:"sample" valid:"0..1"`
	// Log query strings, which may contain secrets.
	Query bool `yaml:"query"`
}

// RecoveryBackoff configures the growth of open periods while recovery fails.
type RecoveryBackoff struct {
	// Factor from one open period to the next; 1 is no growth.
	Multiplier float64 `yaml:"multiplier" valid:"1..1000" tune:"1 1.5 2 3"`
	// Upper limit of the growth. It has no effect if it is below recovery_timeout.
	Max time.Duration `yaml:"max" valid:"positive"`
	// Random share of the open period, 0 to 1, that is added or subtracted, so that instances do not probe at the same time.
	Jitter float64 `yaml:"jitter" valid:"0..1"`
}

// By configures a breaker for each value of a header field, the key, within the breaker of the service, which counts
// all requests. A request needs the permission of both, which have the same conditions. The breakers of keys are not
// shared with other instances.
type By struct {
	// Name of the header field; "" is none. A request without the field, or with a value of more than 256 bytes or not in UTF-8, is judged by the service's breaker alone. The admin API shows the values.
	Header string `yaml:"header" valid:"key_header"`
	// Largest number of keys. A further one replaces the one that was used least recently; one whose breaker is open only if all are.
	Max int `yaml:"max" valid:"1..10000"`
}

// Probe configures an active probe for recovery.
type Probe struct {
	// Path, with an optional query, of the GET request below the upstream's URL; "" disables it. A status from 200 to 399 that is not in failure_statuses is a success.
	Path string `yaml:"path" valid:"probe_path"`
	// Time between probes.
	Interval time.Duration `yaml:"interval" valid:"positive"`
	// Time limit of a probe.
	Timeout time.Duration `yaml:"timeout" valid:"positive"`
	// Probe each endpoint while the breaker is closed, too: an endpoint is ejected by failures of the probe as by those of requests. Requires path or grpc.
	Always bool `yaml:"always"`
	// Probe with the gRPC health protocol (grpc.health.v1.Health/Check) instead of a GET request: SERVING is a success. Requires an h2c or https upstream; path is not used.
	GRPC bool `yaml:"grpc"`
}

// Enabled reports whether a probe tests recovery instead of clients' requests.
func (p *Probe) Enabled() bool { return p.GRPC || p.Path != "" }

// Fallback answers requests that the upstream cannot.
type Fallback struct {
	// Reasons for which the fallback answers.
	When []string `yaml:"when" enum:"open,half_open_limit,throttled,recovering,connect,timeout,reset,overload,status"`
	// Strategies in the order in which they are tried; the first one with an answer is used.
	Try []string `yaml:"try"`

	// Strategies are the options of each strategy in Try by its name, of the types that Loader.Strategies
	// returns.
	Strategies map[string]any `yaml:",inline"`
}

// Endpoints are the entries of a service's upstream, in the order of the file. In a loaded Config there is at
// least one, no two are equal, and they are never modified.
type Endpoints []Endpoint

// Endpoint is one entry of a service's upstream.
type Endpoint struct {
	// Upstream is the URL, without dns+.
	Upstream
	// Resolve reports that the URL was given with dns+: every address of its host name is an endpoint.
	Resolve bool
}

// Upstream is the URL of a server: scheme http, https or h2c, host, and an optional path without
// a slash at its end. In a loaded Config it is not nil and is never modified.
type Upstream struct{ *url.URL }

// Size is a number of bytes. In YAML it is a number, or text with a unit such as 64KiB.
type Size = strictyaml.Size
