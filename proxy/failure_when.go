package proxy

import (
	"net/http"

	"cbproxy/internal/events"
	"cbproxy/internal/expression"
	"cbproxy/internal/grpc"
	"cbproxy/internal/service"
)

// evaluateFailureWhen evaluates breaker.failure_when for a response, and reports a failure if it is true. It does nothing if there is
// none, or if the attempt has been reported or has failed. Of a body that is not known, body is nil. It returns errStatus if a
// fallback is to replace the response.
func (a *attempt) evaluateFailureWhen(header http.Header, grpcStatus string, body []byte) error {
	if a.reported || a.failure != nil ||
		!a.x.route.FailsByContent(expression.Response{Status: a.status, Header: header, GRPCStatus: grpcStatus, Body: body}) {
		return nil
	}
	a.reportFailure(events.ErrorExpression, service.ErrFailureWhen)
	if a.x.route.HasFallbackFor(events.ReasonStatus) {
		return errStatus
	}
	return nil
}

// evaluatesFailureWhenLater reports whether failure_when uses something that is known after the header section of res: the body, if it
// is read whole anyway, or the status in the trailers of a gRPC response.
func (a *attempt) evaluatesFailureWhenLater(res *http.Response, readsWhole bool) bool {
	f := a.x.route.FailureWhen
	if f == nil {
		return false
	}
	inTrailers := a.x.grpc != nil && grpc.HasContentType(res.Header)
	return readsWhole && f.UsesBody() || inTrailers && f.UsesGRPCStatus()
}
