package grpc

import (
	"net/http"
	"time"
)

// minCallerDeadline is the shortest timeout of a caller that counts as a failure of the upstream when it passes. Otherwise any
// client could open a breaker with short timeouts.
const minCallerDeadline = 100 * time.Millisecond

// Call is a request that is a gRPC call. It is immutable, and its methods may be called on nil: the request is no call.
type Call struct {
	timeout, limit time.Duration // of the caller, 0: none; and of the proxy
	start          time.Time
}

// CallOf returns a request of HTTP/2, which began at start, as a call; nil if it is none. limit is the proxy's own timeout.
func CallOf(r *http.Request, start time.Time, limit time.Duration) *Call {
	if !HasContentType(r.Header) {
		return nil
	}
	c := &Call{limit: limit, start: start}
	if t := r.Header["Grpc-Timeout"]; len(t) == 1 {
		c.timeout, _ = ParseTimeout(t[0]) // a malformed one is sent on, for the upstream to reject
	}
	return c
}

// Timeout returns the caller's timeout.
func (c *Call) Timeout() time.Duration { return c.timeout }

// DeadlineApplies reports whether the caller's timeout is shorter than the proxy's.
func (c *Call) DeadlineApplies() bool { return c != nil && c.timeout > 0 && c.timeout < c.limit }

// DeadlineTooShort reports whether the caller's timeout is so short that its passing is no failure of the upstream.
func (c *Call) DeadlineTooShort() bool { return c.DeadlineApplies() && c.timeout < minCallerDeadline }

// DeadlineNear reports whether the caller's deadline has passed or is about to: clocks differ a little.
func (c *Call) DeadlineNear() bool { return time.Since(c.start) >= c.timeout*9/10 }
