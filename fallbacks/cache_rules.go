package fallbacks

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// cacheControl is what a Cache-Control field says (RFC 9111, section 5.2).
type cacheControl struct {
	noStore bool
	// unusable tells that no other may be given the response, or nobody once it is stale.
	unusable bool
	// maxAge and sharedMaxAge are -1 if they are not given, 0 if they make no sense.
	maxAge, sharedMaxAge time.Duration
}

// parseCacheControl reads the field's lines. ok is false if they are malformed: nobody knows
// then what they forbid.
func parseCacheControl(lines []string) (c cacheControl, ok bool) {
	c.maxAge, c.sharedMaxAge = -1, -1
	for _, rest := range lines {
		for {
			if rest = strings.TrimLeft(rest, " \t,"); rest == "" {
				break
			}
			var name, argument string
			if name, argument, rest, ok = cutDirective(rest); !ok {
				return c, false
			}
			switch strings.ToLower(name) {
			case "no-store":
				c.noStore = true
			case "private", "no-cache", "must-revalidate", "proxy-revalidate": // with field names, too
				c.unusable = true
			case "max-age":
				c.maxAge = strictest(c.maxAge, argument)
			case "s-maxage":
				c.sharedMaxAge = strictest(c.sharedMaxAge, argument)
			}
		}
	}
	return c, true
}

// strictest returns the lower one of a directive's arguments.
func strictest(before time.Duration, argument string) time.Duration {
	d := deltaSeconds(argument)
	if before >= 0 {
		d = min(d, before)
	}
	return d
}

// cutDirective cuts the first directive off s, which begins with its name. argument is without
// its quotes. rest is "" or begins with a comma.
func cutDirective(s string) (name, argument, rest string, ok bool) {
	if name, rest = cutToken(s); name == "" {
		return "", "", "", false
	}
	rest = strings.TrimLeft(rest, " \t")
	if strings.HasPrefix(rest, "=") {
		if argument, rest, ok = cutArgument(strings.TrimLeft(rest[1:], " \t")); !ok {
			return "", "", "", false
		}
		rest = strings.TrimLeft(rest, " \t")
	}
	return name, argument, rest, rest == "" || rest[0] == ','
}

// cutToken cuts the longest token off s, which may be none.
func cutToken(s string) (token, rest string) {
	end := 0
	for end < len(s) && httpguts.IsTokenRune(rune(s[end])) {
		end++
	}
	return s[:end], s[end:]
}

// cutArgument cuts a token or a quoted string off s.
func cutArgument(s string) (argument, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		argument, rest = cutToken(s)
		return argument, rest, argument != ""
	}
	var unquoted strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return unquoted.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		unquoted.WriteByte(s[i])
	}
	return "", "", false
}

// maxDelta is what a larger number of seconds is taken for (RFC 9111, section 1.2.2).
const maxDelta = 1 << 31

// deltaSeconds reads a number of seconds; d is 0 if it is none.
func deltaSeconds(text string) (d time.Duration) {
	n, _ := strconv.ParseUint(text, 10, 64) // the largest there is if it is larger than that
	return time.Duration(min(n, maxDelta)) * time.Second
}

// mayAsk reports whether what is learnt from a request with the given header may be kept. A
// request for a range is no question: its response may be a part.
func mayAsk(h http.Header) bool {
	c, ok := parseCacheControl(h["Cache-Control"])
	return ok && !c.noStore && len(h["Range"]) == 0
}

// judge takes in what a response that came now says of itself, beside its key, fields and body.
// It is false if the response is no good or must not be kept.
func (e *cacheEntry) judge(status int, h http.Header, now time.Time) bool {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent:
	default: // neither good nor, as 201 and 202, news of this one request
		return false
	}
	c, ok := parseCacheControl(h["Cache-Control"])
	if !ok || c.noStore || c.unusable || len(h["Content-Range"]) > 0 || slices.ContainsFunc(h["Content-Type"], isStream) {
		return false
	}
	*e = cacheEntry{status: status, received: now, age: initialAge(h)}
	e.lifetime, e.hasLifetime = freshness(c, h, now)
	// A shared cache must not use a response with s-maxage once it is stale (section 5.2.2.10).
	e.mustBeFresh = c.sharedMaxAge >= 0
	return e.usableAt(now)
}

// isStream reports whether the media type is one whose bodies are not read as a whole.
func isStream(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.Trim(mediaType, " \t")
	return strings.EqualFold(mediaType, "text/event-stream") || isGRPC(mediaType)
}

// initialAge is the age that a response has when it comes; one that can't be read is none.
func initialAge(h http.Header) time.Duration {
	if len(h["Age"]) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(h["Age"][0], ",")
	return deltaSeconds(strings.Trim(first, " \t"))
}

// freshness returns for how long from its making a response says that it is fresh (section
// 4.2.1); ok is false if it says nothing.
func freshness(c cacheControl, h http.Header, now time.Time) (lifetime time.Duration, ok bool) {
	switch {
	case c.sharedMaxAge >= 0:
		return c.sharedMaxAge, true
	case c.maxAge >= 0:
		return c.maxAge, true
	case len(h["Expires"]) == 0:
		return 0, false
	}
	expires, err := http.ParseTime(h.Get("Expires"))
	if err != nil {
		return 0, true // such as 0, which means that it has expired
	}
	made, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		made = now
	}
	return max(0, expires.Sub(made)), true
}

// isPersonal reports whether a response field is for one request alone.
func isPersonal(name string) bool {
	switch name {
	case "Age", "Authentication-Info", "Proxy-Authentication-Info", "Proxy-Authorization", "Set-Cookie", "Set-Cookie2":
		return true
	}
	return false
}
