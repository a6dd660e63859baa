package cache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/grpc"
)

// cacheControl holds the directives of a Cache-Control field (RFC 9111, section 5.2).
type cacheControl struct {
	noStore bool
	// mustNotReuse is true if a directive forbids a shared cache to use the response without
	// validation, at once or when it is stale. Such responses are not stored.
	mustNotReuse bool
	// maxAge and sharedMaxAge are -1 if absent, 0 if invalid.
	maxAge, sharedMaxAge time.Duration
}

// parseCacheControl parses the field's lines. ok is false if they are malformed: a response must
// then not be stored, because it is unknown what they forbid.
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
			case "private", "no-cache", "must-revalidate", "proxy-revalidate": // also if limited to some fields
				c.mustNotReuse = true
			case "max-age":
				c.maxAge = shortest(c.maxAge, argument)
			case "s-maxage":
				c.sharedMaxAge = shortest(c.sharedMaxAge, argument)
			}
		}
	}
	return c, true
}

// shortest returns the lesser of a repeated directive's arguments. previous is -1 for the first one.
func shortest(previous time.Duration, argument string) time.Duration {
	d := parseDeltaSeconds(argument)
	if previous >= 0 {
		d = min(d, previous)
	}
	return d
}

// cutDirective splits off the first directive of s, which begins with its name. argument is
// unquoted. rest is empty or begins with a comma.
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

// cutToken splits off the longest token at the beginning of s, which may be empty.
func cutToken(s string) (token, rest string) {
	end := 0
	for end < len(s) && httpguts.IsTokenRune(rune(s[end])) {
		end++
	}
	return s[:end], s[end:]
}

// cutArgument splits off a token or a quoted string, which it unquotes.
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

// maxDelta is the value of larger numbers of seconds (RFC 9111, section 1.2.2).
const maxDelta = 1 << 31

// parseDeltaSeconds returns 0 if text is not a number.
func parseDeltaSeconds(text string) time.Duration {
	n, _ := strconv.ParseUint(text, 10, 64) // math.MaxUint64 if out of range
	return time.Duration(min(n, maxDelta)) * time.Second
}

// requestAllowsStoring reports whether the response to a request with the given header may be
// stored. A response to a range request may be partial.
func requestAllowsStoring(h http.Header) bool {
	c, ok := parseCacheControl(h["Cache-Control"])
	return ok && !c.noStore && len(h["Range"]) == 0
}

// initResponse sets the fields of e that depend only on the response's status and header, and on when
// the request was sent and the response received. It returns false if the response is not successful
// or must not be stored.
func (e *entry) initResponse(status int, h http.Header, sent, received time.Time) bool {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent:
	default: // others are failures, or, as 201 and 202, concern one request only
		return false
	}
	c, ok := parseCacheControl(h["Cache-Control"])
	if !ok || c.noStore || c.mustNotReuse || len(h["Content-Range"]) > 0 || slices.ContainsFunc(h["Content-Type"], isStream) {
		return false
	}
	date, hasDate := parseDate(h)
	if !hasDate {
		date = received
	}
	*e = entry{status: status, received: received, hasDate: hasDate, ageReceived: initialAge(parseAge(h), date, sent, received)}
	e.lifetime, e.hasLifetime = freshness(c, h, date)
	// A shared cache must not use a stale response with s-maxage (section 5.2.2.10).
	e.mustRevalidate = c.sharedMaxAge >= 0
	return e.usableAt(received)
}

// isStream reports whether bodies of the media type are streams.
func isStream(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.Trim(mediaType, " \t")
	return strings.EqualFold(mediaType, "text/event-stream") || grpc.IsVariant(mediaType)
}

// parseDate returns the value of Date. ok is false if there is none, an invalid one or several.
func parseDate(h http.Header) (date time.Time, ok bool) {
	if len(h["Date"]) != 1 {
		return date, false
	}
	date, err := http.ParseTime(h["Date"][0])
	return date, err == nil
}

// initialAge returns a response's age when it was received (section 4.2.3): from its Age and how long it
// was under way, or from its Date if that is more, because a cache of HTTP/1.0 sends no Age. sent is
// zero if it is unknown.
func initialAge(age time.Duration, date, sent, received time.Time) time.Duration {
	if !sent.IsZero() {
		age += max(0, received.Sub(sent))
	}
	apparent := received.Truncate(time.Second).Sub(date) // Date has whole seconds
	return max(age, min(apparent, maxDelta*time.Second))
}

// parseAge returns the value of Age, 0 if it is absent or invalid.
func parseAge(h http.Header) time.Duration {
	if len(h["Age"]) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(h["Age"][0], ",")
	return parseDeltaSeconds(strings.Trim(first, " \t"))
}

// freshness returns the freshness lifetime that a response with the given date states (section 4.2.1);
// ok is false if it states none.
func freshness(c cacheControl, h http.Header, date time.Time) (lifetime time.Duration, ok bool) {
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
		return 0, true // an invalid date, especially 0, means that it has expired
	}
	return max(0, expires.Sub(date)), true
}

// isUnstorable reports whether a response field concerns one request only.
func isUnstorable(name string) bool {
	switch name {
	case "Age", "Authentication-Info", "Proxy-Authentication-Info", "Proxy-Authorization", "Set-Cookie", "Set-Cookie2":
		return true
	}
	return false
}
