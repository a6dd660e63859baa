package store

import (
	"cmp"
	"crypto/tls"
	"errors"
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
			return nil, errors.New("must have no database number, because a cluster has but one")
		}
		return newCluster(u.String(), tlsConfig, replyLimit)
	}
	return nil, errors.New(wantRedisURL)
}

// parserFaults maps errors of go-redis's URL parsers to our own, because theirs quote parts of the URL, which may be parts of a password
// that was not escaped.
var parseErrors = []struct {
	text *regexp.Regexp
	want string // $1 is a parameter's name
}{
	{regexp.MustCompile(`^redis: invalid (?:database number|URL path)`), "must have a number as its path, which is the database's"},
	{regexp.MustCompile(`^redis: invalid ([a-zA-Z_]+) (?:number|duration|boolean)`), "must have another value for its parameter $1"},
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
	setPoolDefaults(&o.Protocol, &o.PoolSize, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize)
	setTimeoutDefaults(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout)
	o.ContextTimeoutEnabled, o.DisableIdentity = true, true
	o.MaintNotificationsConfig = noMaintenance()
	o.TLSConfig = tlsOf(o.TLSConfig, tlsConfig)
	o.Dialer = limitReplies(o.DialTimeout, o.TLSConfig, replyLimit)
	return redis.NewClient(o), nil
}

func newFailover(text string, tlsConfig *tls.Config, replyLimit func() int64) (redis.UniversalClient, error) {
	o, err := redis.ParseFailoverURL(text)
	if err != nil {
		return nil, urlError(err)
	}
	setPoolDefaults(&o.Protocol, &o.PoolSize, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize)
	setTimeoutDefaults(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout)
	o.ContextTimeoutEnabled, o.DisableIdentity = true, true
	o.TLSConfig = tlsOf(o.TLSConfig, tlsConfig)
	o.Dialer = limitReplies(o.DialTimeout, o.TLSConfig, replyLimit)
	return redis.NewFailoverClient(o), nil
}

func newCluster(text string, tlsConfig *tls.Config, replyLimit func() int64) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(text)
	if err != nil {
		return nil, urlError(err)
	}
	setPoolDefaults(&o.Protocol, &o.PoolSize, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize)
	setTimeoutDefaults(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout)
	o.ContextTimeoutEnabled, o.DisableIdentity = true, true
	o.MaintNotificationsConfig = noMaintenance()
	o.TLSConfig = tlsOf(o.TLSConfig, tlsConfig)
	o.Dialer = limitReplies(o.DialTimeout, o.TLSConfig, replyLimit)
	return redis.NewClusterClient(o), nil
}

// tune sets the options that the URL does not. Retries are disabled, because the callers retry.
func setPoolDefaults(protocol, poolSize, maxRetries, dialerRetries, pipelinePoolSize *int) {
	*protocol = cmp.Or(*protocol, 2)
	*poolSize = cmp.Or(*poolSize, redisPoolSize)
	*maxRetries, *dialerRetries = -1, 1
	*pipelinePoolSize = cmp.Or(*pipelinePoolSize, -1)
}

func setTimeoutDefaults(timeouts ...*time.Duration) {
	for _, d := range timeouts {
		*d = cmp.Or(*d, redisTimeout)
	}
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
