package healthcheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/upstream"
)

// Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md beside it.

// emptyMessage is a message of no bytes, behind its prefix: a HealthCheckRequest without a service asks for the whole server.
var emptyMessage = make([]byte, prefixSize)

// prefixSize is the size in bytes of the prefix of a message: a flag that is 1 if the message is compressed, and its length.
const prefixSize = 1 + 4

// maxMessage is the limit in bytes of a HealthCheckResponse. It has a single number, and may have fields that are not known yet.
const maxMessage = 4 << 10

// call returns the request of a call of grpc.health.v1.Health/Check. Its Grpc-Timeout lets the server give up when Do does.
func (c *Check) call(target upstream.Target) *http.Request {
	r := c.newRequest(target, http.MethodPost, grpc_health_v1.Health_Check_FullMethodName, "", false)
	r.Header["Content-Type"] = []string{"application/grpc"}
	r.Header["Te"] = []string{"trailers"}
	r.Header["Grpc-Timeout"] = []string{grpc.FormatTimeout(c.Timeout)}
	r.ContentLength = prefixSize
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(emptyMessage)), nil }
	r.Body, _ = r.GetBody()
	return r
}

// evaluateCall evaluates the response to a call.
func evaluateCall(res *upstream.Response) *upstream.Error {
	if res.StatusCode != http.StatusOK || res.ProtoMajor < 2 || !grpc.HasContentType(res.Header) {
		return failure(events.ErrorProtocol, "not a gRPC response: status %d, %s, content type %.100q", res.StatusCode, res.Proto, res.Header.Get("Content-Type"))
	}
	body, err := res.ReadAll(prefixSize + maxMessage)
	if err != nil {
		return err
	}
	return evaluateMessage(res.Header, res.Trailer, body)
}

// evaluateMessage evaluates a complete response of gRPC. Its status is in the trailers or, if there is no message, in the header
// section.
func evaluateMessage(header, trailer http.Header, body []byte) *upstream.Error {
	code, text, ok := grpc.ParseStatus(trailer)
	if !ok && len(body) == 0 {
		code, text, ok = grpc.ParseStatus(header)
	}
	switch {
	case !ok:
		return failure(events.ErrorProtocol, "the response has no grpc-status")
	case code == grpc.Unimplemented:
		return failure(events.ErrorGRPC, "gRPC status UNIMPLEMENTED: the server has no health service (grpc.health.v1.Health)")
	case code != grpc.OK && text != "":
		return failure(events.ErrorGRPC, "gRPC status %v: %s", code, text)
	case code != grpc.OK:
		return failure(events.ErrorGRPC, "gRPC status %v", code)
	}
	message, err := singleMessage(body)
	if err != nil {
		return failure(events.ErrorProtocol, "malformed response: %w", err)
	}
	var response grpc_health_v1.HealthCheckResponse
	if err := proto.Unmarshal(message, &response); err != nil {
		return failure(events.ErrorProtocol, "malformed response: %w", err)
	}
	if response.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return failure(events.ErrorGRPC, "%v", response.Status)
	}
	return nil
}

// singleMessage returns the only message of a body. It cannot be compressed, as the request offers no compression.
func singleMessage(body []byte) ([]byte, error) {
	switch {
	case len(body) < prefixSize:
		return nil, errors.New("no message")
	case body[0] != 0:
		return nil, errors.New("the message is compressed")
	case uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-prefixSize):
		return nil, errors.New("the message does not have the length of its prefix")
	}
	return body[prefixSize:], nil
}

// failure returns a failure of an upstream that has sent a response.
func failure(kind events.ErrorType, format string, a ...any) *upstream.Error {
	return &upstream.Error{ErrorClass: upstream.ErrorClass{Failure: kind}, Connected: true, Err: fmt.Errorf(format, a...)}
}
