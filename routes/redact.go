package routes

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const redacted = "redacted"

// secretWords are what the name of a parameter that is a secret holds.
var secretWords = []string{"password", "passwd", "secret", "token", "key", "auth", "credential", "signature"}

var (
	// userinfo finds the credentials of a URL wherever it stands in a text, also of one that is not well formed.
	userinfo = regexp.MustCompile(`(?s)://.*@`)
	// parameter finds one parameter of a URL's query, with what parts it from the one before.
	parameter = regexp.MustCompile(`[?&][^?&]*`)
	scheme    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
)

// redact hides the credentials of URLs in s: the user information, and the parameters whose
// names tell of a secret.
func redact(s string) string {
	if !strings.ContainsAny(s, "@=") {
		return s // as nearly all are
	}
	return userinfo.ReplaceAllString(redactQuery(s), "://"+redacted+"@")
}

// redactURL is redact for what should be a URL with credentials, whatever it is: they are
// hidden without :// too, and of what can't be taken apart only the scheme is left.
func redactURL(text string) string {
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

// redactQuery hides the values of the parameters in s whose names tell of a secret. A value may
// hold a ? as it is, and an & if no other parameter begins with it.
func redactQuery(s string) string {
	secret := false
	return parameter.ReplaceAllStringFunc(s, func(p string) string {
		separator, rest := p[:1], p[1:]
		name, value, named := strings.Cut(rest, "=")
		if named && !(secret && separator == "?") {
			if secret = namesSecret(name); secret {
				return separator + name + "=" + hide(value)
			}
		}
		if secret {
			return separator + hide(rest)
		}
		return p
	})
}

// namesSecret tells whether a parameter's name, as it stands in a URL, is that of a secret.
func namesSecret(name string) bool {
	if decoded, err := url.QueryUnescape(name); err == nil {
		name = decoded
	}
	name = strings.ToLower(name)
	return name == "sig" || slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(name, word) })
}

// hide returns what is shown of a secret. An @ in it stays one: it may be the one behind a user
// information that holds a ?, which must be recognized as such.
func hide(secret string) string {
	switch {
	case secret == "":
		return ""
	case strings.Contains(secret, "@"):
		return redacted + "@" + redacted
	}
	return redacted
}
