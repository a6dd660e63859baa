package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"

	"cbproxy/internal/events"
)

// RedisConfig is what a Redis store is built from.
type RedisConfig struct {
	// URL is as ValidateRedisURL describes it.
	URL string
	// TLS is for rediss URLs; nil verifies the server by the system's authorities.
	TLS *tls.Config
	// Namespace is put before each key and channel, as it is.
	Namespace string
	// TTL returns how long a state lives without anybody's touching it.
	TTL func() time.Duration
	// LargestBody returns the bytes of the largest body of a request that this instance queues, nil is 0.
	// A reply that is larger by more than 8 MiB is an error.
	LargestBody func() int64
	// Logger is told once when Redis can't be used, and once when it can again.
	Logger *slog.Logger
}

// Redis is a Store in Redis, shared with all who name the same server and namespace, and the
// place where a fleet's decisions are made: see Merge, Decide and Acquire. No method waits
// longer than its context or a few seconds. It needs Redis 5 or newer.
type Redis struct {
	config RedisConfig
	client redis.UniversalClient
	// secrets are what of the URL must not be told.
	secrets []string
	condition
}

// NewRedis returns a store that connects when it is first asked something.
func NewRedis(c RedisConfig) (*Redis, error) {
	client, err := newClient(c.URL, c.TLS, c.replyLimit)
	if err != nil {
		return nil, err
	}
	return &Redis{config: c, client: client, secrets: secretsIn(c.URL), condition: condition{logger: c.Logger, faults: map[string]fault{}}}, nil
}

// replyLimit returns how many bytes a reply may have: Claim returns up to claimBytes and one more record.
func (c *RedisConfig) replyLimit() int64 {
	if c.LargestBody == nil {
		return minReplyLimit
	}
	return minReplyLimit + c.LargestBody()
}

// Keys, to which the namespace and, but for the channel, a service's name are added.
const (
	stateKey      = "circuit_breaker_state:"
	historyKey    = "circuit_breaker_history:"
	leaseKey      = "circuit_breaker_probe:"
	eventsChannel = "circuit_breaker_events"
)

func (r *Redis) key(kind, service string) string { return r.config.Namespace + kind + service }

// do runs one operation on a service's keys and keeps its outcome as Redis's condition: by what it
// is, for a key may be readable and yet not writable.
func (r *Redis) do(ctx context.Context, what, service string, operation func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err := recovered(func() error { return operation(ctx) })
	if err != nil {
		err = r.explain(what+" of "+service, err)
	}
	r.note(what+" of "+service, err, ctx)
	return err
}

// recovered returns a panic of the client library as an error: no reply may end the process.
func recovered(operation func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the client library has panicked: %v", p)
		}
	}()
	return operation()
}

// operationTimeout is for a new connection, a redirection and the operation itself.
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

// historyMaxLen is for a whole fleet. Redis drops by whole nodes of its tree, and so may keep
// somewhat more.
const historyMaxLen = 5 * HistoryLimit

// History implements Store. Entries that make no sense are left out. That it fails is no part of
// the Condition: it is for people who look, and those see it.
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

// explain returns what failed, without the secrets of the URL, which a server may quote.
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
