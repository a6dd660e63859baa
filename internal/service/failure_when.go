package service

import (
	"errors"

	"cbproxy/internal/expression"
	"cbproxy/internal/upstream"
)

// ErrFailureWhen is the error of a response for which breaker.failure_when is true.
var ErrFailureWhen = errors.New("failure_when is true")

// FailsByContent reports whether breaker.failure_when is true for a response; false if there is none. An evaluation that fails is
// counted and logged, and the response is no failure.
func (rt *Route) FailsByContent(r expression.Response) bool {
	if rt.FailureWhen == nil {
		return false
	}
	failed, err := rt.FailureWhen.Evaluate(r)
	if err != nil {
		rt.Service.ReportExpressionError(rt.Logger, err)
	}
	return failed
}

// readDelivered reads the body of a response to a delivery, so that its connection can be reused. It returns the body if
// breaker.failure_when uses it, as for the responses to clients: if it is known to be within response_buffer.
func (rt *Route) readDelivered(res *upstream.Response) ([]byte, *upstream.Error) {
	limit := int64(rt.Config.ResponseBuffer)
	if f := rt.FailureWhen; f != nil && f.UsesBody() && res.ContentLength >= 0 && res.ContentLength <= limit {
		return res.ReadAll(limit)
	}
	return nil, res.Discard(maxDiscarded)
}
