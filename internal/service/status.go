package service

import (
	"net/http"
	"slices"
	"time"

	"cbproxy/internal/grpc"
	"cbproxy/internal/message"
)

// StatusClass is how a breaker counts a response by its header section.
type StatusClass int

// The classes of a response.
const (
	StatusSuccess    StatusClass = iota // no failure by its status
	StatusFailure                       // breaker.failure_statuses
	StatusIgnored                       // breaker.ignore_statuses: neither a success nor a failure
	StatusRetryAfter                    // breaker.retry_after: the upstream asks for no request before a time
)

// ClassifyStatus returns the class of a response with a status and the value of its Retry-After field; for StatusRetryAfter also the
// time that it names.
func (rt *Route) ClassifyStatus(status int, retryAfter string) (class StatusClass, until time.Time) {
	c := &rt.Config.Breaker
	if c.RetryAfter.After > 0 && c.RetryAfter.Statuses.Has(status) {
		now := time.Now()
		if delay := message.ParseRetryAfter(retryAfter, now); delay > 0 { // otherwise the field names no time in the future
			return StatusRetryAfter, now.Add(delay)
		}
	}
	switch {
	case c.IgnoreStatuses.Has(status):
		return StatusIgnored, time.Time{}
	case c.FailureStatuses.Has(status):
		return StatusFailure, time.Time{}
	}
	return StatusSuccess, time.Time{}
}

// IsGRPCFailure reports whether res, a response to a gRPC call, has no messages and a status that is a failure.
func (rt *Route) IsGRPCFailure(res *http.Response) bool {
	if !grpc.HasContentType(res.Header) {
		return false
	}
	code, _, ok := grpc.ParseStatus(res.Header)
	return ok && rt.GRPCFailures.Has(code)
}

// IsUsable reports whether a response, by its header section, is no failure and would not be repeated. isCall is whether the request is a
// gRPC call.
func (rt *Route) IsUsable(res *http.Response, isCall bool) bool {
	if slices.Contains(rt.Config.Retry.Statuses, res.StatusCode) || isCall && rt.IsGRPCFailure(res) {
		return false
	}
	class, _ := rt.ClassifyStatus(res.StatusCode, res.Header.Get("Retry-After"))
	return class == StatusSuccess
}

// retryLaterError is the error of a request whose response is of the class StatusRetryAfter.
type retryLaterError struct{ until time.Time }

// Error implements error.
func (e *retryLaterError) Error() string {
	return "the upstream asks for no request before " + e.until.Format(time.RFC3339)
}
