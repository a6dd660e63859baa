package proxy

import (
	"fmt"
	"net/http"
	"strconv"

	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/problem"
)

// isGRPCFailure reports whether res is a response without messages to a gRPC call, with a status that is a failure.
func (x *exchange) isGRPCFailure(res *http.Response) bool {
	if x.grpc == nil || !grpc.HasContentType(res.Header) {
		return false
	}
	code, _, ok := grpc.ParseStatus(res.Header)
	return ok && x.route.GRPCFailures.Has(code)
}

// evaluateGRPC evaluates a response by its header section, where a trailers-only response has its status.
func (a *attempt) evaluateGRPC(h http.Header) {
	if code, message, ok := grpc.ParseStatus(h); ok {
		a.pushback = grpc.ParsePushback(h)
		a.evaluateGRPCStatus(code, message, h)
	}
}

// evaluateGRPCEnd evaluates a response by its trailers, after the end of its body.
func (a *attempt) evaluateGRPCEnd(res *http.Response) {
	code, message, ok := grpc.ParseStatus(res.Trailer)
	if !ok && res.Header["Grpc-Status"] != nil {
		return // the header section has been evaluated
	}
	a.evaluateGRPCStatus(code, message, res.Header)
}

// evaluateGRPCStatus evaluates the status of a gRPC response with a header section.
func (a *attempt) evaluateGRPCStatus(code grpc.Code, message string, header http.Header) {
	a.x.outcome.GRPCStatus = code.String()
	if code == grpc.DeadlineExceeded && a.x.grpc.DeadlineTooShort() {
		a.reportCancelled()
		return
	}
	switch {
	case a.failure != nil:
		return
	case !a.x.route.GRPCFailures.Has(code):
		_ = a.evaluateFailureWhen(header, code.String(), nil) // a gRPC response is not replaced: the caller knows its status
		return
	}
	if message != "" {
		message = ": " + message
	}
	a.reportFailure(events.ErrorGRPC, fmt.Errorf("gRPC status %v%s", code, message))
}

// grpcCodeFor returns the status code of a gRPC response in place of p.
func (x *exchange) grpcCodeFor(p *problem.Problem) grpc.Code {
	switch {
	case p.Status() == http.StatusGatewayTimeout && x.grpc.DeadlineApplies():
		return grpc.DeadlineExceeded
	case p.Status() == http.StatusRequestEntityTooLarge:
		return grpc.ResourceExhausted
	case p.Status() == http.StatusRequestTimeout:
		return grpc.DeadlineExceeded
	case p.Status() == http.StatusBadRequest:
		return grpc.Internal
	}
	return grpc.Unavailable
}

var grpcType = []string{"application/grpc"}

// writeGRPCProblem sends p as a trailers-only gRPC response: a header section with the status. Fields that are already set stay.
func (x *exchange) writeGRPCProblem(p *problem.Problem) {
	h, code := x.w.Header(), x.grpcCodeFor(p)
	x.outcome.GRPCStatus = code.String()
	h["Content-Type"] = grpcType
	h["Proxy-Status"] = p.ProxyStatus()
	h["Grpc-Status"] = []string{strconv.Itoa(int(code))}
	h["Grpc-Message"] = []string{p.Detail()} // plain ASCII, which needs no encoding
	x.w.WriteHeader(http.StatusOK)
}
