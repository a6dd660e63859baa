package queue

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"cbproxy/fallbacks"
	internalqueue "cbproxy/internal/queue"
	"cbproxy/routes"
)

// Options configures the queue strategy, which stores requests on disk and delivers them later.
type Options struct {
	// Status of the answer to a request that was queued.
	Status int `yaml:"status" valid:"200..299"`
	// Body of that answer, any YAML value, served as JSON.
	Body fallbacks.JSON `yaml:"body"`
	// Methods of requests that may be queued, in upper case.
	Methods []string `yaml:"methods" valid:"method" most:"32"`
	// Largest number of requests of the service that may wait, and of dead letters that are kept. Further requests are not queued.
	Capacity int `yaml:"capacity" valid:"1..100000000"`
	// Largest request body in bytes. A request with a larger one is not queued.
	MaxBody routes.Size `yaml:"max_body" valid:"0..1GiB"`
	// How long a request may wait before it becomes a dead letter.
	MaxAge time.Duration `yaml:"max_age" valid:"1s.."`
	// How many times a request is sent before it becomes a dead letter.
	MaxAttempts int `yaml:"max_attempts" valid:"1..1000000"`
	// Delay after the first failure. It doubles with each further failure, with jitter. A longer Retry-After is respected, up to an hour.
	Backoff time.Duration `yaml:"backoff" valid:"positive"`
	// Longest delay after a failure, except for a Retry-After. At least backoff.
	MaxBackoff time.Duration `yaml:"max_backoff" valid:"positive"`
	// Deliver requests one at a time in the order of acceptance, and queue new requests while earlier ones wait, so that none overtakes them. Only a request that fails while others succeed is overtaken.
	Ordered bool `yaml:"ordered"`
	// Names of header fields that are not stored, such as Authorization: the upstream does not get them.
	DropHeaders []string `yaml:"drop_headers" most:"100"`
	// Names of header fields that are stored with the value "redacted".
	RedactHeaders []string `yaml:"redact_headers" most:"100"`
	// Encryption of stored requests.
	Encryption Encryption `yaml:"encryption"`
}

// Encryption configures the encryption of queued requests.
type Encryption struct {
	// File with keys for AES-256-GCM, each a line of 32 bytes in base64, read at each reload; "" disables encryption. The first key encrypts and all keys decrypt: put a new key before the old one.
	KeyFile string `yaml:"key_file"`
}

// DefaultOptions returns the options with their default values.
func DefaultOptions() *Options {
	p := internalqueue.DefaultPolicy()
	return &Options{
		Status: http.StatusAccepted, Body: fallbacks.JSON(`{"status":"queued"}`), Methods: []string{http.MethodPost, http.MethodPut},
		Capacity: p.Capacity, MaxBody: 1 << 20, MaxAge: p.MaxAge, MaxAttempts: p.MaxAttempts,
		Backoff: p.Backoff, MaxBackoff: p.MaxBackoff, Ordered: p.Ordered,
	}
}

// DropDefaults removes a body that was not given, if the answer has none because of its status.
func (o *Options) DropDefaults(given func(key string) bool) {
	fallbacks.DropDefaultBody(&o.Body, o.Status, given)
}

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	if o.MaxBackoff < o.Backoff {
		report("max_backoff", fmt.Sprintf("must be at least backoff (%v), got %v", o.Backoff, o.MaxBackoff))
	}
	if !fallbacks.BodyAllowed(o.Status) && len(o.Body) > 0 {
		report("body", "must not be given: a response with status "+strconv.Itoa(o.Status)+" has no body")
	}
	fallbacks.ValidateFieldNames("drop_headers", o.DropHeaders, report)
	fallbacks.ValidateFieldNames("redact_headers", o.RedactHeaders, report)
	for i, name := range o.RedactHeaders {
		if http.CanonicalHeaderKey(name) == "Idempotency-Key" {
			report(fmt.Sprintf("redact_headers[%d]", i), "must not be Idempotency-Key: all requests would have the same key; use drop_headers, which gives each request a new one")
		}
	}
	if o.Encryption.KeyFile != "" {
		if _, err := internalqueue.ReadKeyring(o.Encryption.KeyFile); err != nil {
			report("encryption.key_file", "must be a readable file of keys: "+err.Error())
		}
	}
}
