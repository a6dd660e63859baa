package routes_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cbproxy/routes"
)

// secretURLs maps URLs, some of them malformed, whose secrets consist of Q and Z to their redacted form.
var secretURLs = map[string]string{
	"redis://user:QZ@host:6379/0":                                "redis://redacted@host:6379/0",
	"rediss+cluster://:QZ@host?addr=host2:1":                     "rediss+cluster://redacted@host?addr=host2:1",
	"redis://host?sentinel_password=QZ&master_name=main":         "redis://host?sentinel_password=redacted&master_name=main",
	"redis://host?Password=Q#Z":                                  "redis://host?Password=redacted",
	"redis://host?p%61ssword=Q&db=1&auth%5Ftoken=Z":              "redis://host?p%61ssword=redacted&db=1&auth%5Ftoken=redacted",
	"redis://host?client_secret=Q?Z=Q&db=1":                      "redis://host?client_secret=redacted?redacted&db=1",
	"redis://host?sentinel_password=Q&Z&db=1":                    "redis://host?sentinel_password=redacted&redacted&db=1",
	"redis://host?sentinel_password=Q Z":                         "redis://host?sentinel_password=redacted",
	"redis://host?sentinel_password=&db=1":                       "redis://host?sentinel_password=&db=1",
	"redis://user:Q@host?sentinel_password=Q@Z":                  "redis://redacted@redacted",
	"redis://user:Q@Z@host":                                      "redis://redacted@host",
	"redis://user:Q?token=Z@host":                                "redis://redacted",
	"redis://:/QZ@host:6379":                                     "redis://redacted@host:6379",
	"redis://user:1/QZ@host:6379":                                "redis://redacted@host:6379",
	"redis://user:1#QZ@host:6379":                                "redis://redacted@host:6379",
	"redis://user:Q/Z@host":                                      "redis://redacted",
	"redis://user:Q Z@host":                                      "redis://redacted",
	"redis://user:Q%Z@host":                                      "redis://redacted",
	"redis://user:Q\nZ@host":                                     "redis://redacted",
	"redis://user:QZ":                                            "redis://redacted",
	"redis:user:QZ@host":                                         "redacted@host",
	"//user:QZ@host":                                             "redacted@host",
	"user:QZ@host":                                               "redacted@host",
	"redis://user:" + strings.Repeat("QZ", 1000) + "@host":       "redis://redacted@host",
	"redis://host?token=" + strings.Repeat("QZ", 1000) + "&db=1": "redis://host?token=redacted&db=1",
}

func holdsSecret(s string) bool { return strings.ContainsAny(s, "QZ") }

func TestRedisURLFaultsContainNoSecret(t *testing.T) {
	file, environment := loader(), loader()
	file.RedisURL = func(text string) error { // quotes what it finds fault with
		u, err := url.Parse(text)
		if err != nil {
			return fmt.Errorf("must not be %s", text)
		}
		return fmt.Errorf("must not be %s with %s", text, u.Path)
	}
	environment.RedisURL = file.RedisURL
	for text, shown := range secretURLs {
		_, err := file.Parse(fmt.Appendf(nil, "%sredis: {url: %q}", minimal, text))
		if err == nil || !strings.HasPrefix(err.Error(), "config.yaml:2:9: redis.url: must ") || holdsSecret(err.Error()) ||
			!strings.HasSuffix(err.Error(), fmt.Sprintf(", got %q", shown)) {
			t.Errorf("%q: got %v, want %s", text, err, shown)
		}
		environment.Environ = []string{"REDIS_URL=" + text}
		_, err = environment.Parse([]byte(minimal))
		if err == nil || !strings.HasPrefix(err.Error(), "environment: REDIS_URL: must ") || holdsSecret(err.Error()) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestFaultsOfMisplacedURLsContainNoSecret(t *testing.T) {
	for _, config := range []string{
		"redis: redis://user:QZ@host",
		"redis: {share: {quorum: \"redis://user:Q Z@host\"}}",
		"redis: {ttl: redis://host?sentinel_password=QZ}",
		"redis: {redis://user:QZ@host: 1}",
		"redis: {url: redis://user:QZ@host, url: 1}",
		"redis: {url: \"redis://:Q${Z@host\"}",
		"redis: {url: \"redis://host?sentinel_password=Q${Z Q}\"}",
	} {
		_, err := loader().Parse([]byte(minimal + config))
		if err == nil || holdsSecret(err.Error()) {
			t.Errorf("%s: got %v", config, err)
		}
	}
}

func TestMarshalJSONContainsNoSecret(t *testing.T) {
	l := loader("CBPROXY_ADMIN_TOKEN=QZ")
	l.RedisURL = nil
	for _, text := range slices.Sorted(maps.Keys(secretURLs)) {
		if !strings.Contains(text, "@") && !strings.Contains(text, "?") || !strings.Contains(text, "://") || strings.Contains(text, "\n") {
			continue // no Redis client accepts it
		}
		c, err := l.Parse(fmt.Appendf(nil, "%sredis: {url: %q}", minimal, text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(c); err != nil || holdsSecret(string(got)) {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
	}
}

// The path of a probe may contain credentials in its query.
func TestMarshalJSONRedactsQuerySecrets(t *testing.T) {
	for _, name := range []string{"password", "X-Api-Key", "access_token", "sig", "signature", "auth", "client%5fsecret", "credential"} {
		file := fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: \"http://127.0.0.1:1\", breaker: {probe: {path: \"/up?deep=yes&%s=QZ&n=1\"}}}}\n", name)
		c, err := loader().Parse([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(c); err != nil || holdsSecret(string(got)) || !strings.Contains(string(got), "/up?deep=yes") {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
}

func TestRedisFromTheEnvironment(t *testing.T) {
	const file = minimal + "redis: {url: redis://file, ttl: 2s}\n"
	for _, test := range []struct {
		environ []string
		url     string
		ttl     time.Duration
	}{
		{nil, "redis://file", 2 * time.Second},
		{[]string{"REDIS_URL=", "REDIS_CIRCUIT_BREAKER_TTL="}, "redis://file", 2 * time.Second},
		{[]string{"REDIS_URL=rediss://user:a${b}@host", "REDIS_CIRCUIT_BREAKER_TTL=90"}, "rediss://user:a${b}@host", 90 * time.Second},
		{[]string{"REDIS_CIRCUIT_BREAKER_TTL=1h30m"}, "redis://file", 90 * time.Minute},
	} {
		c, err := loader(test.environ...).Parse([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		if c.Redis.URL != test.url || c.Redis.TTL != test.ttl {
			t.Errorf("%v: got %q and %v", test.environ, c.Redis.URL, c.Redis.TTL)
		}
	}
}

func TestRedisURLIsCalledForEffectiveURLOnly(t *testing.T) {
	asked := []string{}
	l := loader("REDIS_URL=redis://environment")
	l.RedisURL = func(url string) error {
		asked = append(asked, url)
		return nil
	}
	for _, content := range []string{minimal + "redis: {url: redis://file}", minimal} {
		if _, err := l.Parse([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	l.Environ = nil
	if c, err := l.Parse([]byte(minimal)); err != nil || c.Redis != (routes.Redis{TTL: time.Hour, Share: routes.Share{Enabled: true, Quorum: 1}}) {
		t.Errorf("got %+v, %v, want the defaults", c, err)
	}
	if len(asked) != 2 || asked[0] != "redis://environment" || asked[1] != asked[0] {
		t.Errorf("asked for %q", asked)
	}
}
