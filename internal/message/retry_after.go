package message

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// ParseRetryAfter returns the delay that the value of a Retry-After field asks for at now (RFC 9110, section 10.2.3: seconds or a
// date); 0 if s is empty or malformed.
func ParseRetryAfter(s string, now time.Time) time.Duration {
	if s == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// FormatRetryAfter returns the value of a Retry-After field for a delay: whole seconds, rounded up so that no client retries too early.
func FormatRetryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}
