package sanitize

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// redacted replaces a secret.
const redacted = "redacted"

// secretWords are the words that mark a query parameter as a secret if its name contains one of them.
var secretWords = []string{"password", "passwd", "secret", "token", "key", "auth", "credential", "signature"}

var (
	// userinfo matches the user information of a URL anywhere in a text, also if the URL is malformed.
	userinfo = regexp.MustCompile(`(?s)://.*@`)
	// parameter matches one query parameter of a URL together with the separator before it.
	parameter = regexp.MustCompile(`[?&][^?&]*`)
	scheme    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
)

// Redact replaces the credentials of all URLs in s: user information, and the values of query
// parameters whose names mark a secret.
func Redact(s string) string {
	if !strings.ContainsAny(s, "@=") {
		return s // the common case: s has no credentials
	}
	return userinfo.ReplaceAllString(redactQuery(s), "://"+redacted+"@")
}

// RedactURL is Redact for a value that is expected to be a URL with credentials but may be
// malformed. It also replaces credentials without a "://" before them, and everything but the scheme of a
// value that cannot be parsed.
func RedactURL(text string) string {
	begin := scheme.FindString(text)
	if _, err := url.Parse(text); err != nil {
		return begin + redacted
	}
	rest := redactQuery(text[len(begin):])
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = redacted + rest[i:]
	}
	return begin + rest
}

// redactQuery replaces the values of the parameters in s whose names mark a secret. A value may
// contain an unencoded "?", and an unencoded "&" if no parameter with a name follows it.
func redactQuery(s string) string {
	secret := false
	return parameter.ReplaceAllStringFunc(s, func(p string) string {
		separator, rest := p[:1], p[1:]
		name, value, named := strings.Cut(rest, "=")
		if named && !(secret && separator == "?") {
			if secret = isSecretName(name); secret {
				return separator + name + "=" + replacement(value)
			}
		}
		if secret {
			return separator + replacement(rest)
		}
		return p
	})
}

// isSecretName reports whether a parameter's name, which may be percent-encoded, marks a secret.
func isSecretName(name string) bool {
	if decoded, err := url.QueryUnescape(name); err == nil {
		name = decoded
	}
	name = strings.ToLower(name)
	return name == "sig" || slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(name, word) })
}

// replacement returns the text that replaces a secret. It keeps an "@", which may end user
// information that contains a "?": the caller must still recognize it.
func replacement(secret string) string {
	switch {
	case secret == "":
		return ""
	case strings.Contains(secret, "@"):
		return redacted + "@" + redacted
	}
	return redacted
}
