package proxy

import (
	"fmt"
	"net/http"

	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/problem"
)

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

// writeGRPCProblem sends p as a trailers-only gRPC response. Fields that are already set stay.
func (x *exchange) writeGRPCProblem(p *problem.Problem) {
	code := grpc.CodeOf(p.Status())
	if p.Status() == http.StatusGatewayTimeout && x.grpc.DeadlineApplies() {
		code = grpc.DeadlineExceeded
	}
	x.outcome.GRPCStatus = code.String()
	x.w.Header()["Proxy-Status"] = p.ProxyStatus()
	grpc.WriteStatus(x.w, code, p.Detail())
}
