package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/problem"
)

// grpcCode is a status code of gRPC, see
// https://github.com/grpc/grpc/blob/master/doc/statuscodes.md.
type grpcCode int

// The codes that the proxy itself answers with, or must tell apart.
const (
	grpcOK                grpcCode = 0
	grpcUnknown           grpcCode = 2
	grpcDeadlineExceeded  grpcCode = 4
	grpcResourceExhausted grpcCode = 8
	grpcInternal          grpcCode = 13
	grpcUnavailable       grpcCode = 14
)

// grpcCodeNames are the names by which configuration knows the codes.
var grpcCodeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func (c grpcCode) String() string {
	if c >= 0 && int(c) < len(grpcCodeNames) {
		return grpcCodeNames[c]
	}
	return strconv.Itoa(int(c))
}

// grpcCodes is a set of codes.
type grpcCodes uint32

func newGRPCCodes(names []string) (set grpcCodes) {
	for _, name := range names {
		for code, known := range grpcCodeNames {
			if name == known {
				set |= 1 << code
			}
		}
	}
	return set
}

func (s grpcCodes) has(c grpcCode) bool { return c >= 0 && c < 32 && s&(1<<c) != 0 }

// grpcCall is what the proxy must know of a request that is a gRPC call.
type grpcCall struct {
	timeout time.Duration // what the caller gives it; 0: no end
}

// grpcCallOf returns the gRPC call that r is, nil if it is none.
func grpcCallOf(r *http.Request) *grpcCall {
	if r.ProtoMajor < 2 || !isGRPC(r.Header) {
		return nil
	}
	c := new(grpcCall)
	if t := r.Header["Grpc-Timeout"]; len(t) == 1 {
		c.timeout, _ = parseGRPCTimeout(t[0]) // the upstream will say what it thinks of a malformed one
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

// isGRPC reports whether a header section announces a gRPC message.
func isGRPC(h http.Header) bool {
	t := h["Content-Type"]
	if len(t) != 1 {
		return false
	}
	rest, ok := strings.CutPrefix(t[0], "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// parseGRPCTimeout reads a grpc-timeout: at most eight digits and a unit, see
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. A time too long for a
// Duration is the longest there is.
func parseGRPCTimeout(s string) (time.Duration, bool) {
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
	return max(time.Duration(n)*unit, time.Nanosecond), true // none at all is over at once
}

// parseGRPCStatus reads the status in a header section or in trailers. ok is false if there
// is none; a malformed one is UNKNOWN.
func parseGRPCStatus(h http.Header) (code grpcCode, message string, ok bool) {
	status := h["Grpc-Status"]
	if len(status) == 0 {
		return grpcUnknown, "no grpc-status", false
	}
	n, err := strconv.ParseUint(status[0], 10, 31)
	if err != nil || len(status) > 1 {
		return grpcUnknown, "malformed grpc-status", true
	}
	message = strings.Join(h["Grpc-Message"], ", ")
	if decoded, err := url.PathUnescape(message); err == nil {
		message = decoded
	}
	return grpcCode(n), message, true
}

// judgeGRPC judges a response by its header section: a trailers-only response has its
// status there.
func (a *attempt) judgeGRPC(h http.Header) {
	if code, message, ok := parseGRPCStatus(h); ok {
		a.judgeGRPCStatus(code, message)
	}
}

// judgeGRPCEnd judges a response whose body has ended by its trailers.
func (a *attempt) judgeGRPCEnd(res *http.Response) {
	code, message, ok := parseGRPCStatus(res.Trailer)
	if !ok && res.Header["Grpc-Status"] != nil {
		return // the header section has told
	}
	a.judgeGRPCStatus(code, message)
}

func (a *attempt) judgeGRPCStatus(code grpcCode, message string) {
	a.x.outcome.GRPCStatus = code.String()
	if code == grpcDeadlineExceeded && a.x.hurried() {
		a.cancelled()
		return
	}
	if a.failure != nil || !a.x.route.grpcFailures.has(code) {
		return
	}
	if message != "" {
		message = ": " + message
	}
	a.failed(events.ErrorGRPC, fmt.Errorf("gRPC status %v%s", code, message))
}

// grpcCodeFor returns the code with which a gRPC call is answered in the upstream's place.
func (x *exchange) grpcCodeFor(p *problem.Problem) grpcCode {
	switch {
	case p.Status() == http.StatusGatewayTimeout && x.hasDeadline():
		return grpcDeadlineExceeded
	case p.Status() == http.StatusRequestEntityTooLarge:
		return grpcResourceExhausted
	case p.Status() == http.StatusRequestTimeout:
		return grpcDeadlineExceeded
	case p.Status() == http.StatusBadRequest:
		return grpcInternal
	}
	return grpcUnavailable
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
