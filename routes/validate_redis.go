package routes

import (
	"net/url"
	"strings"

	"cbproxy/internal/sanitize"
	"cbproxy/internal/strictyaml"
)

// checkRedisURL checks the URL, from wherever it comes. No fault holds what may be secret in it.
func (b *builder) checkRedisURL() {
	text := b.config.Redis.URL
	at := b.at("redis.url")
	if b.environ[redisURLVariable] != "" {
		at = strictyaml.Place{Path: redisURLVariable}
	}
	if want := b.wantRedisURL(text); want != "" {
		b.faults.Add(at, "%s, got %q", want, sanitize.TruncateRunes(sanitize.RedactURL(text), strictyaml.MaxValueRunes))
	}
}

// wantRedisURL returns what the URL must be instead, "" if it is fine.
func (b *builder) wantRedisURL(text string) string {
	switch {
	case text == "":
		return ""
	case strings.ContainsFunc(text, isControl):
		return "must have no control character"
	case b.RedisURL == nil:
		return ""
	}
	err := b.RedisURL(text)
	switch {
	case err == nil:
		return ""
	case strayAt(text):
		return "must have %40, %2F, %3F and %23 in place of @, /, ? and # in a user name, a password or a parameter"
	}
	return sanitize.Redact(strings.ReplaceAll(err.Error(), text, sanitize.RedactURL(text)))
}

// strayAt tells whether an @ stands behind the host of a URL. A password that has a / or the
// like in it makes one: its end is then taken for a path, and whoever finds fault with the path
// may quote it.
func strayAt(text string) bool {
	u, err := url.Parse(text)
	return err == nil && strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@")
}
