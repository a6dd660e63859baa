package store

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"

	"cbproxy/internal/events"
)

// RedisConfig configures a Redis store.
type RedisConfig struct {
	// URL has the syntax that ValidateRedisURL describes.
	URL string
	// TLS is used for rediss URLs; nil verifies the server by the system's CA certificates.
	TLS *tls.Config
	// Namespace is the prefix of each key and channel.
	Namespace string
	// TTL returns how long a state is kept after its last update.
	TTL func() time.Duration
	// LargestBody returns the size of the largest request body that this instance queues, in bytes; nil is 0. A reply that exceeds it by
	// more than 8 MiB is an error.
	LargestBody func() int64
	// Logger logs when Redis becomes unavailable and when it is available again.
	Logger *slog.Logger
}

// Redis is a Store in Redis, shared by all instances with the same server and namespace. A fleet makes its decisions there with Merge,
// Propose and Acquire. No method takes longer than its context or a few seconds. It requires Redis 5 or newer.
type Redis struct {
	config RedisConfig
	client redis.UniversalClient
	// secrets are the parts of the URL that errors must not contain.
	secrets []string
	healthRecorder
}

// NewRedis returns a store that connects on the first operation.
func NewRedis(c RedisConfig) (*Redis, error) {
	client, err := newClient(c.URL, c.TLS, c.replyLimit)
	if err != nil {
		return nil, err
	}
	return &Redis{config: c, client: client, secrets: secretsIn(c.URL), healthRecorder: healthRecorder{logger: c.Logger, failures: map[string]failure{}}}, nil
}

// replyLimit returns the largest size of a reply in bytes. Claim returns up to claimBytes and one more record.
func (c *RedisConfig) replyLimit() int64 {
	if c.LargestBody == nil {
		return minReplyLimit
	}
	return minReplyLimit + c.LargestBody()
}

// Keys are prefixed by the namespace and, except the channel, followed by the name of a service.
const (
	stateKey      = "circuit_breaker_state:"
	historyKey    = "circuit_breaker_history:"
	leaseKey      = "circuit_breaker_probe:"
	eventsChannel = "circuit_breaker_events"
)

func (r *Redis) key(kind, service string) string { return r.config.Namespace + kind + service }

// do runs one operation on a service's keys and records its outcome in the health under its name, because a key may be readable but
// not writable.
func (r *Redis) do(ctx context.Context, what, service string, operation func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err := recovered(func() error { return operation(ctx) })
	if err != nil {
		err = r.explain(what+" of "+service, err)
	}
	r.recordResult(ctx, what+" of "+service, err)
	return err
}

// recovered turns a panic of the client library into an error, so that no reply can crash the process.
func recovered(operation func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the client library: %v", p)
		}
	}()
	return operation()
}

// operationTimeout covers a new connection, a redirection and the operation itself.
const operationTimeout = 2 * redisTimeout

// Load implements Store.
func (r *Redis) Load(ctx context.Context, service string) (s State, found bool, err error) {
	err = r.do(ctx, "load the state", service, func(ctx context.Context) error {
		fields, err := r.client.HGetAll(ctx, r.key(stateKey, service)).Result()
		if err != nil || len(fields) == 0 {
			return err
		}
		s, found, err = parseFields(service, fields)
		return err
	})
	return s, found, err
}

// Save implements Store.
func (r *Redis) Save(ctx context.Context, s State) error {
	return r.do(ctx, "save the state", s.Service, func(ctx context.Context) error {
		_, _, err := r.merge(ctx, s, true)
		return err
	})
}

// Append implements Store.
func (r *Redis) Append(ctx context.Context, c events.HistoryEntry) error {
	return r.do(ctx, "add to the history", c.Service, func(ctx context.Context) error {
		text, err := encodeChange(c)
		if err != nil {
			return err
		}
		return r.client.XAdd(ctx, &redis.XAddArgs{
			Stream: r.key(historyKey, c.Service),
			MaxLen: historyMaxLen, Approx: true,
			Values: []any{"time", formatTime(c.Time), "from", c.From.String(), "to", c.To.String(),
				"cause", string(c.Cause), "instance", c.Instance, "change", text},
		}).Err()
	})
}

// historyMaxLen is the maximum length of the stream for all instances of a fleet. It is approximate (`MAXLEN ~`), so the stream may be
// longer.
const historyMaxLen = 5 * HistoryLimit

// History implements Store. It skips malformed entries. Its errors do not affect the Health, because the caller shows them.
func (r *Redis) History(ctx context.Context, service string, limit int) (changes []events.HistoryEntry, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var entries []redis.XMessage
	err = recovered(func() error {
		entries, err = r.client.XRevRangeN(ctx, r.key(historyKey, service), "+", "-", int64(limit)).Result()
		return err
	})
	if err != nil {
		return nil, r.explain("read the history of "+service, err)
	}
	for _, entry := range entries {
		if c, ok := decodeChange(entry.Values["change"]); ok && c.Service == service {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// explain adds the operation to err and removes the secrets of the URL, which a server may quote.
func (r *Redis) explain(what string, err error) error {
	err = fmt.Errorf("%s in Redis: %w", what, plainError(err))
	final := permanent(err)
	if text := r.withoutSecrets(err.Error()); text != err.Error() {
		err = errors.New(text)
	}
	if final {
		return backoff.Permanent(err)
	}
	return err
}

func (r *Redis) withoutSecrets(text string) string {
	for _, secret := range r.secrets {
		text = strings.ReplaceAll(text, secret, "redacted")
	}
	return text
}

// Close implements Store.
func (r *Redis) Close() error { return r.client.Close() }

// timeLayout is readable and exact enough for the end of an open state.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

// fieldsOf returns s as fields and values of a hash. All fields are always present.
func fieldsOf(s State) []any {
	return append(proposalFields(s), "epoch", strconv.FormatUint(s.Epoch, 10))
}

// proposalFields is fieldsOf without the epoch.
func proposalFields(s State) []any {
	return []any{
		"service_name", s.Service,
		"state", s.State.String(),
		"timestamp", formatTime(s.Timestamp),
		"fail_counter", strconv.Itoa(s.Failures),
		"instance", s.Instance,
		"opened_at", formatTime(s.OpenedAt),
		"until", formatTime(s.Until),
		"openings", strconv.Itoa(s.ConsecutiveOpens),
		"forced", strconv.FormatBool(s.Forced),
		"cause", string(s.Cause),
		"reason", s.Reason,
		"prober", s.Prober,
	}
}

// parseFields parses the result of fieldsOf. found is false for a hash without a state, which only counts detected failures.
func parseFields(service string, fields map[string]string) (s State, found bool, err error) {
	text, found := fields["state"]
	if !found {
		return State{}, false, nil
	}
	s = State{
		Service: service, Instance: fields["instance"],
		Cause: events.Cause(fields["cause"]), Reason: fields["reason"], Prober: fields["prober"],
	}
	read := func(field string, parse func(string) error) {
		if value := fields[field]; err == nil && value != "" {
			if problem := parse(value); problem != nil {
				err = fmt.Errorf("parse field %s: %w", field, problem)
			}
		}
	}
	at := func(t *time.Time) func(string) error {
		return func(value string) (err error) { *t, err = time.Parse(timeLayout, value); return err }
	}
	number := func(n *int) func(string) error {
		return func(value string) (err error) { *n, err = strconv.Atoi(value); return err }
	}
	read("state", func(string) error { return s.State.UnmarshalText([]byte(text)) })
	read("epoch", func(value string) (err error) { s.Epoch, err = strconv.ParseUint(value, 10, 53); return err })
	read("timestamp", at(&s.Timestamp))
	read("opened_at", at(&s.OpenedAt))
	read("until", at(&s.Until))
	read("fail_counter", number(&s.Failures))
	read("openings", number(&s.ConsecutiveOpens))
	read("forced", func(value string) (err error) { s.Forced, err = strconv.ParseBool(value); return err })
	s.Shared = s.Forced
	if err == nil && fields["service_name"] != service {
		err = fmt.Errorf("the key has the state of another service, %q", fields["service_name"])
	}
	if err != nil {
		return State{}, false, err
	}
	return s, true, nil
}

func encodeChange(c events.HistoryEntry) (string, error) {
	text, err := json.Marshal(c)
	return string(text), err
}

func decodeChange(value any) (c events.HistoryEntry, ok bool) {
	text, ok := value.(string)
	return c, ok && json.Unmarshal([]byte(text), &c) == nil
}
