package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// No request waits for Redis. The timeouts only detect that it is unavailable.
const (
	redisTimeout  = time.Second
	redisPoolSize = 4
)

const wantRedisURL = "must be a URL such as redis://host:6379/0, rediss://host:6379, " +
	"redis://sentinel:26379?master_name=main&addr=sentinel2:26379 or redis+cluster://node:6379?addr=node2:6379"

// ValidateRedisURL returns an error if the URL of a Redis is invalid. The schemes are redis and, for TLS, rediss, with the suffix
// +sentinel or +cluster if the host is one. The parameter master_name implies +sentinel. Otherwise the parameter addr, the host and port
// of another node, implies +cluster. The other parameters are those of go-redis. The error contains no part of the URL that may be a
// secret.
func ValidateRedisURL(text string) error {
	client, err := newClient(text, nil, nil)
	if err == nil {
		_ = client.Close() // it has connected to nothing
	}
	return err
}

// newClient returns a client for a URL, which connects on first use. replyLimit returns the largest size of a reply in bytes.
func newClient(text string, tlsConfig *tls.Config, replyLimit func() int64) (redis.UniversalClient, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Fragment != "" {
		return nil, errors.New(wantRedisURL)
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	query := u.Query()
	switch {
	case kind == "" && query.Has("master_name"):
		kind = "sentinel"
	case kind == "" && query.Has("addr"):
		kind = "cluster"
	}
	u.Scheme = scheme
	if scheme != "redis" && scheme != "rediss" && !(scheme == "unix" && kind == "") {
		return nil, errors.New(wantRedisURL)
	}
	switch kind {
	case "":
		return newSingle(u.String(), tlsConfig, replyLimit)
	case "sentinel":
		if query.Get("master_name") == "" {
			return nil, errors.New("must name the master that the sentinels watch, by the parameter master_name")
		}
		return newFailover(u.String(), tlsConfig, replyLimit)
	case "cluster":
		if strings.Trim(u.Path, "/0") != "" || query.Has("db") {
			return nil, errors.New("must not have a database number: Redis Cluster supports only database 0")
		}
		return newCluster(u.String(), tlsConfig, replyLimit)
	}
	return nil, errors.New(wantRedisURL)
}

// parseErrors maps errors of go-redis's URL parsers to errors without parts of the URL, which may be parts of a password that was not
// escaped.
var parseErrors = []struct {
	text *regexp.Regexp
	want string // $1 is a parameter's name
}{
	{regexp.MustCompile(`^redis: invalid (?:database number|URL path)`), "must have a number as its path, which is the database's"},
	{regexp.MustCompile(`^redis: invalid ([a-zA-Z_]+) (?:number|duration|boolean)`), "parameter $1 has an invalid value"},
	{regexp.MustCompile(`^redis: unable to parse addr`), "must have a host and a port in each parameter addr"},
	{regexp.MustCompile(`^redis: unexpected option: ([a-z_]+(?:, [a-z_]+)*)$`), "must not have the parameter $1"},
	{regexp.MustCompile(`^redis: empty unix socket path`), "must have the path of a socket"},
}

// urlError returns the error of a URL that a parser of go-redis rejected.
func urlError(err error) error {
	for _, f := range parseErrors {
		if match := f.text.FindStringSubmatchIndex(err.Error()); match != nil {
			return errors.New(string(f.text.ExpandString(nil, f.want, err.Error(), match)))
		}
	}
	return errors.New(wantRedisURL)
}

// secretsIn returns the passwords in a URL, both escaped and unescaped.
func secretsIn(text string) (secrets []string) {
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	add := func(secret string) {
		if secret != "" {
			secrets = append(secrets, secret, url.QueryEscape(secret), url.PathEscape(secret))
		}
	}
	if password, ok := u.User.Password(); ok {
		add(password)
	}
	for name, values := range u.Query() {
		if strings.Contains(name, "password") {
			for _, value := range values {
				add(value)
			}
		}
	}
	return secrets
}

func newSingle(text string, tlsConfig *tls.Config, replyLimit func() int64) (redis.UniversalClient, error) {
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, urlError(err)
	}
	commonOptions{
		&o.Protocol, &o.PoolSize, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout,
		&o.PoolTimeout, &o.ContextTimeoutEnabled, &o.DisableIdentity, &o.TLSConfig, &o.Dialer,
	}.set(tlsConfig, replyLimit)
	o.MaintNotificationsConfig = noMaintenance()
	return redis.NewClient(o), nil
}

func newFailover(text string, tlsConfig *tls.Config, replyLimit func() int64) (redis.UniversalClient, error) {
	o, err := redis.ParseFailoverURL(text)
	if err != nil {
		return nil, urlError(err)
	}
	commonOptions{
		&o.Protocol, &o.PoolSize, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout,
		&o.PoolTimeout, &o.ContextTimeoutEnabled, &o.DisableIdentity, &o.TLSConfig, &o.Dialer,
	}.set(tlsConfig, replyLimit)
	return redis.NewFailoverClient(o), nil
}

func newCluster(text string, tlsConfig *tls.Config, replyLimit func() int64) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(text)
	if err != nil {
		return nil, urlError(err)
	}
	commonOptions{
		&o.Protocol, &o.PoolSize, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout,
		&o.PoolTimeout, &o.ContextTimeoutEnabled, &o.DisableIdentity, &o.TLSConfig, &o.Dialer,
	}.set(tlsConfig, replyLimit)
	o.MaintNotificationsConfig = noMaintenance()
	return redis.NewClusterClient(o), nil
}

// commonOptions points to the options that the three client types of go-redis have in common, but in different structs.
type commonOptions struct {
	protocol, poolSize, maxRetries, dialerRetries, pipelinePoolSize *int
	dialTimeout, readTimeout, writeTimeout, poolTimeout             *time.Duration
	contextTimeoutEnabled, disableIdentity                          *bool
	tlsConfig                                                       **tls.Config
	dialer                                                          *func(ctx context.Context, network, address string) (net.Conn, error)
}

// set sets the options that the URL does not. Retries are disabled, because the callers retry.
func (o commonOptions) set(tlsConfig *tls.Config, replyLimit func() int64) {
	*o.protocol = cmp.Or(*o.protocol, 2)
	*o.poolSize = cmp.Or(*o.poolSize, redisPoolSize)
	*o.maxRetries, *o.dialerRetries = -1, 1
	*o.pipelinePoolSize = cmp.Or(*o.pipelinePoolSize, -1)
	for _, timeout := range []*time.Duration{o.dialTimeout, o.readTimeout, o.writeTimeout, o.poolTimeout} {
		*timeout = cmp.Or(*timeout, redisTimeout)
	}
	*o.contextTimeoutEnabled, *o.disableIdentity = true, true
	*o.tlsConfig = tlsOf(*o.tlsConfig, tlsConfig)
	*o.dialer = limitReplies(*o.dialTimeout, *o.tlsConfig, replyLimit)
}

func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// tlsOf returns the TLS configuration of a client, nil if the URL does not request TLS. Each server is verified by its own name unless
// configured has another.
func tlsOf(fromURL, configured *tls.Config) *tls.Config {
	switch {
	case fromURL == nil:
		return nil
	case configured == nil:
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return configured
}
