package fallbacks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
	"cbproxy/routes"
)

// QueueOptions configures the strategy queue, which keeps requests on the disk and delivers
// them later.
type QueueOptions struct {
	// Status of the answer to a request that was queued.
	Status int `yaml:"status" valid:"200..299"`
	// Body of that answer, any YAML value, served as JSON.
	Body JSON `yaml:"body"`
	// Methods of requests that may be queued, in upper case.
	Methods []string `yaml:"methods" valid:"method" most:"32"`
	// Requests of the service that may wait, and dead letters that are kept. One over it is not queued.
	Capacity int `yaml:"capacity" valid:"1..100000000"`
	// Bytes of a request's body. One with a larger one is not queued.
	MaxBody routes.Size `yaml:"max_body" valid:"0..1GiB"`
	// How long a request may wait; then it is a dead letter.
	MaxAge time.Duration `yaml:"max_age" valid:"1s.."`
	// How often a request is sent; then it is a dead letter.
	MaxAttempts int `yaml:"max_attempts" valid:"1..1000000"`
	// Wait after a first failure. It doubles with each failure after that, with jitter. A Retry-After that is longer is waited for, up to an hour.
	Backoff time.Duration `yaml:"backoff" valid:"positive"`
	// Longest wait after a failure, save for a Retry-After. At least backoff.
	MaxBackoff time.Duration `yaml:"max_backoff" valid:"positive"`
	// Deliver in the order of acceptance, one by one, and queue what comes while others wait, too, so that nothing passes them. Only a request that fails while others succeed is passed.
	Ordered bool `yaml:"ordered"`
	// Names of fields that are not kept, such as Authorization: the upstream will not get them.
	DropHeaders []string `yaml:"drop_headers" most:"100"`
	// Names of fields that are kept with the value "redacted".
	RedactHeaders []string `yaml:"redact_headers" most:"100"`
	// Encryption of what is kept.
	Encryption QueueEncryption `yaml:"encryption"`
}

// QueueEncryption configures the encryption of queued requests.
type QueueEncryption struct {
	// File with keys for AES-256-GCM, each a line of 32 bytes in base64, read at each reload; "" is no encryption. The first one encrypts and all decrypt: a new key is put before the old one.
	KeyFile string `yaml:"key_file"`
}

func defaultQueueOptions() *QueueOptions {
	return &QueueOptions{
		Status: http.StatusAccepted, Body: JSON(`{"status":"queued"}`), Methods: []string{http.MethodPost, http.MethodPut},
		Capacity: 10_000, MaxBody: 1 << 20, MaxAge: 24 * time.Hour, MaxAttempts: 100,
		Backoff: time.Second, MaxBackoff: 5 * time.Minute, Ordered: true,
	}
}

// Validate reports what the types can't say, by path below the options.
func (o *QueueOptions) Validate(report func(path, message string)) {
	if o.MaxBackoff < o.Backoff {
		report("max_backoff", fmt.Sprintf("must be at least backoff (%v), got %v", o.Backoff, o.MaxBackoff))
	}
	if noBody(o.Status) && len(o.Body) > 0 {
		report("body", "must not be given: a response with status "+strconv.Itoa(o.Status)+" has no body")
	}
	checkFieldNames("drop_headers", o.DropHeaders, report)
	checkFieldNames("redact_headers", o.RedactHeaders, report)
	for i, name := range o.RedactHeaders {
		if http.CanonicalHeaderKey(name) == "Idempotency-Key" {
			report(fmt.Sprintf("redact_headers[%d]", i), "must not be Idempotency-Key: all requests would have the same; drop_headers gives each one of its own")
		}
	}
	if o.Encryption.KeyFile != "" {
		if _, err := queue.ReadKeyring(o.Encryption.KeyFile); err != nil {
			report("encryption.key_file", "must be a file of keys that can be read: "+err.Error())
		}
	}
}

// checkFieldNames reports the items of a list that are no names of header fields.
func checkFieldNames(path string, names []string, report func(path, message string)) {
	for i, name := range names {
		if !httpguts.ValidHeaderFieldName(name) {
			report(fmt.Sprintf("%s[%d]", path, i), "must be the name of a header field, got "+strconv.Quote(name))
		}
	}
}

// queued puts requests into its service's queue.
type queued struct {
	options *QueueOptions
	site    Site
	policy  queue.Policy
	answer  Answer
}

func newQueue(o *QueueOptions, site Site) (Strategy, error) {
	s := &queued{options: o, site: site, policy: queue.Policy{
		Capacity: o.Capacity, MaxAge: o.MaxAge, MaxAttempts: o.MaxAttempts, Backoff: o.Backoff, MaxBackoff: o.MaxBackoff, Ordered: o.Ordered,
	}}
	if o.Encryption.KeyFile != "" {
		keys, err := queue.ReadKeyring(o.Encryption.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load encryption.key_file: %w", err)
		}
		s.policy.Keys = keys
	}
	s.answer = Answer{Status: o.Status, Header: http.Header{}, Body: o.Body}
	if !noBody(o.Status) {
		s.answer.Header.Set("Content-Type", "application/json")
	}
	return s, nil
}

// Start implements Starter.
func (s *queued) Start() {
	if q := s.site.Host.Queues; q != nil {
		q.Configure(s.site.Service, s.policy)
	}
}

// BodyLimit implements BodyReader.
func (s *queued) BodyLimit() int64 { return int64(s.options.MaxBody) }

// Holds implements holder: what comes now must not pass what waits.
func (s *queued) Holds(method string) (reason events.Reason, holds bool) {
	q := s.site.Host.Queues
	if q == nil || !s.options.Ordered || !slices.Contains(s.options.Methods, method) {
		return "", false
	}
	return q.Waiting(s.site.Service)
}

var errNoQueue = errors.New("there is no queue")

// Answer says that the request is queued once it is.
func (s *queued) Answer(ctx context.Context, r *Request) (*Answer, error) {
	switch {
	case s.site.Host.Queues == nil:
		return nil, errNoQueue
	case !slices.Contains(s.options.Methods, r.Method):
		return nil, fmt.Errorf("the method %s is not in methods", r.Method)
	case r.BodyError != nil:
		return nil, r.BodyError
	}
	header := r.Header.Clone()
	for _, name := range s.options.DropHeaders {
		header.Del(name)
	}
	for _, name := range s.options.RedactHeaders {
		if header.Values(name) != nil { // a first value that is empty does not make the others less of a secret
			header.Set(name, "redacted")
		}
	}
	err := s.site.Host.Queues.Accept(ctx, s.site.Service, &queue.Message{
		Method: r.Method, Host: r.Host, Path: r.Path, Rest: r.Rest, Query: r.Query, EmptyQuery: r.EmptyQuery, Header: header, Body: r.Body, Reason: r.Reason, Accepted: time.Now(),
	})
	if err != nil {
		return nil, err
	}
	return &s.answer, nil
}
