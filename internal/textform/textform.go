// Package textform checks texts of the configuration that must have a certain form: methods, names of events and fields, prefixes and
// other paths, names of hosts.
package textform

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Form is a form of texts.
type Form struct {
	// Check returns what a text must be, "" if it is valid.
	Check func(text string) (want string)
	// Pattern is a regular expression for the JSON Schema that matches all valid texts, and some others.
	Pattern string
}

// Forms are the forms by the names that they have in the valid tags of the configuration's types.
var Forms = map[string]Form{
	"method":      {checkMethod, methodForm.String()},
	"event_name":  {checkEventName, `^[^ \n\r][^\n\r]*$`},
	"key_header":  {checkKeyHeader, `^$|` + fieldName.String()},
	"probe_path":  {checkProbePath, `^$|^/[^#\s]*$`},
	"server_name": {checkServerName, `^[A-Za-z0-9_.:-]*$`},
	"host":        {checkHost, `^(\*|[A-Za-z0-9_.:-]+)$`},
	"namespace":   {checkNamespace, `^\S{0,64}$`},
}

// Checks are the checks of Forms, for strictyaml.Decoder.
var Checks = func() map[string]func(string) string {
	checks := make(map[string]func(string) string, len(Forms))
	for name, form := range Forms {
		checks[name] = form.Check
	}
	return checks
}()

// IsControl reports whether r is a C0 or C1 control character or the replacement character.
func IsControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\uFFFD' }

// A method is a token (RFC 9110, section 9.1), and every registered one is in upper case.
var methodForm = regexp.MustCompile("^[A-Z][-A-Z0-9!#$%&'*+.^_`|~]{0,31}$")

func checkMethod(text string) (want string) {
	if !methodForm.MatchString(text) {
		return "must be an HTTP method in upper case such as GET"
	}
	return ""
}

// A field name is a token (RFC 9110, section 5.1).
var fieldName = regexp.MustCompile("^[-A-Za-z0-9!#$%&'*+.^_`|~]{1,128}$")

// notKeyHeaders are the fields, in lower case, that cannot be the key of a breaker: they describe the connection and not the request.
var notKeyHeaders = []string{"connection", "host", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
	"te", "trailer", "transfer-encoding", "upgrade"}

func checkKeyHeader(text string) (want string) {
	switch {
	case text == "":
		return ""
	case !fieldName.MatchString(text):
		return `must be the name of a header field such as X-Tenant, or ""`
	case slices.Contains(notKeyHeaders, strings.ToLower(text)):
		return "must be neither Host nor a hop-by-hop field such as Connection"
	}
	return ""
}

const maxEventName = 128

// checkEventName rejects names that the event field of an event stream cannot contain.
func checkEventName(text string) (want string) {
	if text == "" || len(text) > maxEventName || text[0] == ' ' || strings.ContainsAny(text, "\n\r\x00") {
		return "must be an event's name of 1 to 128 bytes, without a space at its start, line breaks and NUL"
	}
	return ""
}

// CheckPrefix returns what a path prefix must be, "" if it is valid. Invalid prefixes either do not occur in validated request paths, or the
// upstream could interpret them differently.
func CheckPrefix(text string) (want string) {
	if !strings.HasPrefix(text, "/") {
		return "must begin with /"
	}
	if text == "/" {
		return ""
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(text[1:], "/"), "/") {
		decoded, err := url.PathUnescape(segment)
		switch {
		case err != nil:
			return "must have two hexadecimal digits after each %"
		case segment == "":
			return "must have no empty segment"
		case decoded == "." || decoded == "..":
			return "must have no dot segment"
		case strings.ContainsAny(segment, "?#"):
			return "must be a path alone, without query and fragment"
		case strings.ContainsAny(decoded, `\/`) || strings.ContainsFunc(decoded, IsControl):
			return "must have no backslash, encoded slash or control character"
		}
	}
	return ""
}

const maxProbePath = 2048

// checkProbePath rejects text that is not valid in a request line, or whose path leaves that of the
// upstream's URL.
func checkProbePath(text string) (want string) {
	path, _, _ := strings.Cut(text, "?")
	decoded, err := url.PathUnescape(path)
	switch {
	case text == "":
		return ""
	case text[0] != '/':
		return `must be "" or begin with /`
	case len(text) > maxProbePath:
		return "must be at most 2048 bytes"
	case strings.Contains(text, "#"):
		return "must have no fragment"
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "must have only printable ASCII characters without spaces (percent-encode others, such as %20)"
	case err != nil:
		return "must have two hexadecimal digits after each %"
	case strings.Contains(decoded, `\`) || strings.ContainsFunc(decoded, IsControl):
		return "must have no backslash or control character"
	}
	for segment := range strings.SplitSeq(decoded, "/") {
		if segment, _, _ = strings.Cut(segment, ";"); segment == "." || segment == ".." {
			return "must have no dot segment"
		}
	}
	return ""
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?)*$`)

const maxHostName = 253

func checkServerName(text string) (want string) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		return ""
	}
	if text != "" && (len(text) > maxHostName || !hostName.MatchString(text)) {
		return "must be a host name such as rag.internal, or an IP address"
	}
	return ""
}

func checkHost(text string) (want string) {
	if text != "*" && (text == "" || checkServerName(text) != "") {
		return `must be a host name such as cbproxy.example.com, without a port, or "*"`
	}
	return ""
}

const maxNamespace = 64

func checkNamespace(text string) (want string) {
	if len(text) > maxNamespace || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) || IsControl(r) }) {
		return "must be at most 64 bytes of printable characters without spaces"
	}
	return ""
}
