package cache

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/routes"
)

// Options configures the cache strategy, which answers with the last successful response to the same request: the same method, Host, path, query and body, and the same values of Authorization and Cookie, of the fields in vary, and of the fields that the response's Vary names.
type Options struct {
	// How long a response may be used after it was received.
	TTL time.Duration `yaml:"ttl" valid:"positive"`
	// Largest number of responses in the cache. The least recently used are evicted first.
	MaxEntries int `yaml:"max_entries" valid:"1..10000000"`
	// Largest response body in bytes that is cached. The proxy may buffer up to this size for each response.
	MaxEntryBytes routes.Size `yaml:"max_entry_bytes" valid:"positive"`
	// Largest size in bytes of the cache, including headers and index. The least recently used responses are evicted first. At least max_entry_bytes.
	MaxBytes routes.Size `yaml:"max_bytes" valid:"positive"`
	// Largest request body in bytes that is part of the cache key; a request with a longer body is not answered. The proxy may buffer up to this size for each request.
	MaxRequestBytes routes.Size `yaml:"max_request_bytes" valid:"0..64MiB"`
	// Methods whose responses are cached, in upper case. List POST only where it is used for queries and changes nothing. GET includes HEAD, which is answered from the response to GET, without its body.
	Methods []string `yaml:"methods" valid:"method" most:"32"`
	// Request fields that are part of the cache key, in addition to Authorization and Cookie, which always are. List every other field on which the response depends for different callers, otherwise a caller may get another caller's response.
	Vary []string `yaml:"vary" most:"32"`
}

// DefaultOptions returns the options with their default values.
func DefaultOptions() *Options {
	return &Options{
		TTL: 10 * time.Minute, MaxEntries: 1000, MaxEntryBytes: 256 << 10, MaxBytes: 64 << 20, MaxRequestBytes: 1 << 20,
		Methods: []string{http.MethodGet, http.MethodPost}, Vary: []string{"Authorization"},
	}
}

// Validate reports the errors that the tags can't express, by path below the options.
func (o *Options) Validate(report func(path, message string)) {
	fallbacks.ValidateFieldNames("vary", o.Vary, report)
	if i := slices.Index(o.Vary, "*"); i >= 0 {
		report(fmt.Sprintf("vary[%d]", i), "must be the name of a header field, got \"*\"")
	}
	if slices.Contains(o.Methods, http.MethodHead) && !slices.Contains(o.Methods, http.MethodGet) {
		report("methods", "must have GET if it has HEAD, which is answered from the response to GET")
	}
	if o.MaxBytes < o.MaxEntryBytes {
		report("max_bytes", "must be at least max_entry_bytes, "+o.MaxEntryBytes.String())
	}
}

func (o *Options) bounds() bounds { return bounds{o.TTL, o.MaxEntries, int64(o.MaxBytes)} }
