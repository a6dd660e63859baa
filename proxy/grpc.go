package proxy

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/problem"
)

// grpcCall is what the proxy must know of a request that is a gRPC call.
type grpcCall struct {
	timeout time.Duration // what the caller gives it; 0: no end
}

// grpcCallOf returns the gRPC call that r is, nil if it is none.
func grpcCallOf(r *http.Request) *grpcCall {
	if r.ProtoMajor < 2 || !grpc.Is(r.Header) {
		return nil
	}
	c := new(grpcCall)
	if t := r.Header["Grpc-Timeout"]; len(t) == 1 {
		c.timeout, _ = grpc.ParseTimeout(t[0]) // the upstream will say what it thinks of a malformed one
	}
	return c
}

// leastDeadline is the time that a caller must give for its deadline to say anything of the
// upstream: any client could open a breaker by being in a hurry.
const leastDeadline = 100 * time.Millisecond

// deadlineError is why an exchange ends at the caller's deadline.
func (c *grpcCall) deadlineError() error {
	if c.timeout < leastDeadline {
		return errHurried
	}
	return errDeadline
}

// judgeGRPC judges a response by its header section: a trailers-only response has its
// status there.
func (a *attempt) judgeGRPC(h http.Header) {
	if code, message, ok := grpc.ParseStatus(h); ok {
		a.judgeGRPCStatus(code, message)
	}
}

// judgeGRPCEnd judges a response whose body has ended by its trailers.
func (a *attempt) judgeGRPCEnd(res *http.Response) {
	code, message, ok := grpc.ParseStatus(res.Trailer)
	if !ok && res.Header["Grpc-Status"] != nil {
		return // the header section has told
	}
	a.judgeGRPCStatus(code, message)
}

func (a *attempt) judgeGRPCStatus(code grpc.Code, message string) {
	a.x.outcome.GRPCStatus = code.String()
	if code == grpc.DeadlineExceeded && a.x.hurried() {
		a.cancelled()
		return
	}
	if a.failure != nil || !a.x.route.grpcFailures.Has(code) {
		return
	}
	if message != "" {
		message = ": " + message
	}
	a.failed(events.ErrorGRPC, fmt.Errorf("gRPC status %v%s", code, message))
}

// grpcCodeFor returns the code with which a gRPC call is answered in the upstream's place.
func (x *exchange) grpcCodeFor(p *problem.Problem) grpc.Code {
	switch {
	case p.Status() == http.StatusGatewayTimeout && x.hasDeadline():
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

// answerGRPC answers with a header section that holds the status and nothing else, which
// gRPC calls trailers-only. Fields that the caller has set stay.
func (x *exchange) answerGRPC(p *problem.Problem) {
	h, code := x.w.Header(), x.grpcCodeFor(p)
	x.outcome.GRPCStatus = code.String()
	h["Content-Type"] = grpcType
	h["Proxy-Status"] = p.ProxyStatus()
	h["Grpc-Status"] = []string{strconv.Itoa(int(code))}
	h["Grpc-Message"] = []string{p.Detail()} // plain ASCII, which needs no encoding
	x.w.WriteHeader(http.StatusOK)
}
