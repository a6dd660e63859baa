package grpc

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Code is a status code.
type Code int

// The codes that the proxy sends or treats specially.
const (
	OK                Code = 0
	Unknown           Code = 2
	DeadlineExceeded  Code = 4
	ResourceExhausted Code = 8
	Unimplemented     Code = 12
	Internal          Code = 13
	Unavailable       Code = 14
)

// codeNames are the names of the codes, as in the configuration.
var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// String returns the name of c, or its number if it has none.
func (c Code) String() string {
	if c >= 0 && int(c) < len(codeNames) {
		return codeNames[c]
	}
	return strconv.Itoa(int(c))
}

// Codes is a set of codes below 32.
type Codes uint32

// NewCodes returns the set of the codes with the given names. Unknown names are ignored.
func NewCodes(names []string) (set Codes) {
	for _, name := range names {
		for code, known := range codeNames {
			if name == known {
				set |= 1 << code
			}
		}
	}
	return set
}

// Has reports whether c is in the set.
func (s Codes) Has(c Code) bool { return c >= 0 && c < 32 && s&(1<<c) != 0 }

// HasContentType reports whether the header is that of a gRPC request or response: whether its Content-Type is application/grpc,
// with or without a suffix or parameters. Use it where the message is interpreted as gRPC. Variants such as gRPC-Web do not
// count, because their status is not in the trailers. Case is significant, as it is in grpc-go.
func HasContentType(h http.Header) bool {
	t := h["Content-Type"]
	if len(t) != 1 {
		return false
	}
	rest, ok := strings.CutPrefix(t[0], mediaType)
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// IsVariant reports whether contentType begins with application/grpc, in any case: it is that of gRPC or of one of its variants,
// such as application/grpc-web. Use it where a body is not interpreted, but must not be buffered because it may be a stream.
func IsVariant(contentType string) bool {
	return len(contentType) >= len(mediaType) && strings.EqualFold(contentType[:len(mediaType)], mediaType)
}

const mediaType = "application/grpc"

// ParseTimeout parses the value of a grpc-timeout field: at most eight digits and a unit. A value that is too large for a
// Duration becomes the largest Duration, and 0 becomes 1 ns.
func ParseTimeout(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	unit, ok := units[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if !ok || err != nil {
		return 0, false
	}
	const longest = time.Duration(1<<63 - 1)
	if time.Duration(n) > longest/unit {
		return longest, true
	}
	return max(time.Duration(n)*unit, time.Nanosecond), true // 0 would mean no timeout
}

// FormatTimeout returns the value of a grpc-timeout field: d in the smallest unit that needs at most eight digits, rounded up. A
// timeout that is not positive becomes 1 ns.
func FormatTimeout(d time.Duration) string {
	d = max(d, time.Nanosecond)
	units := []struct {
		name string
		unit time.Duration
	}{{"n", time.Nanosecond}, {"u", time.Microsecond}, {"m", time.Millisecond}, {"S", time.Second}, {"M", time.Minute}}
	for _, u := range units {
		n := d / u.unit
		if d%u.unit > 0 {
			n++
		}
		if n < 1e8 {
			return strconv.FormatInt(int64(n), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d/time.Hour), 10) + "H" // the largest Duration has seven digits of hours
}

// ParseStatus returns the status and its message from a header section or from trailers. ok is false if there is no
// grpc-status; a malformed one is Unknown.
func ParseStatus(h http.Header) (code Code, message string, ok bool) {
	status := h["Grpc-Status"]
	if len(status) == 0 {
		return Unknown, "no grpc-status", false
	}
	n, err := strconv.ParseUint(status[0], 10, 31)
	if err != nil || len(status) > 1 {
		return Unknown, "malformed grpc-status", true
	}
	message = strings.Join(h["Grpc-Message"], ", ")
	if decoded, err := url.PathUnescape(message); err == nil {
		message = decoded
	}
	return Code(n), message, true
}
