package fallbacks

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ConfiguredAnswer returns the answer with a status and headers that come from options, without
// its body. Content-Type is application/json unless headers sets it.
func ConfiguredAnswer(status int, headers map[string]string) Answer {
	h := make(http.Header, len(headers)+2)
	if BodyAllowed(status) {
		h.Set("Content-Type", "application/json")
	}
	for name, value := range headers {
		h.Set(name, value)
	}
	return Answer{Status: status, Header: h}
}

// ValidateAnswer reports the errors in the options status, headers and body of an answer.
func ValidateAnswer(status int, headers map[string]string, body JSON, report func(path, message string)) {
	seen := make(map[string]string, len(headers)) // names by their canonical form
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		path, value := "headers."+QuoteKey(name), headers[name]
		canonical := http.CanonicalHeaderKey(name)
		other, found := seen[canonical]
		seen[canonical] = name
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			report(path, "must be a header field name of letters, digits and !#$%&'*+-.^_`|~, got "+strconv.Quote(name))
		case !httpguts.ValidHeaderFieldValue(value):
			report(path, "must be a header field value without control characters, got "+strconv.Quote(value))
		case IsReservedField(canonical), canonical == "Date":
			report(path, "must not be set here: cbproxy sets it")
		case found:
			report(path, "must not be given with "+strconv.Quote(other)+", which is the same header field")
		}
	}
	switch {
	case !BodyAllowed(status) && len(body) > 0:
		report("body", "must not be given: a response with status "+strconv.Itoa(status)+" has no body")
	case BodyAllowed(status) && len(body) == 0:
		report("body", "must be given: any YAML value, served as JSON")
	}
}

// DropDefaultBody removes a body that is a default, or that of a built-in fallback, if a response with
// the status has none. given reports whether the configuration has a key.
func DropDefaultBody(body *JSON, status int, given func(key string) bool) {
	if !BodyAllowed(status) && !given("body") {
		*body = nil
	}
}

// ValidateFieldNames reports the items of the list at path that are not names of header fields.
func ValidateFieldNames(path string, names []string, report func(path, message string)) {
	for i, name := range names {
		if !httpguts.ValidHeaderFieldName(name) {
			report(fmt.Sprintf("%s[%d]", path, i), "must be the name of a header field, got "+strconv.Quote(name))
		}
	}
}

// QuoteKey returns a key for use in the path of a validation error. It quotes a key with control
// characters, so that the path is one line.
func QuoteKey(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(key)
	}
	return key
}
