package httpserver

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"cbproxy/internal/problem"
)

// invalidRequestProblems are the responses, by status, to invalid requests, which net/http's server or this package detects. They
// contain nothing that the client has sent.
var invalidRequestProblems = map[int]*problem.Problem{
	http.StatusBadRequest:                  problem.New(http.StatusBadRequest, "http_request_error", "the request is malformed"),
	http.StatusExpectationFailed:           problem.New(http.StatusExpectationFailed, "http_request_error", "the only supported expectation is 100-continue"),
	http.StatusRequestHeaderFieldsTooLarge: problem.HeadersTooLarge,
	http.StatusNotImplemented:              problem.New(http.StatusNotImplemented, "http_request_error", "the only supported transfer coding of requests is chunked"),
	http.StatusHTTPVersionNotSupported:     problem.New(http.StatusHTTPVersionNotSupported, "http_request_error", "the supported versions are HTTP/1.1 and HTTP/2"),
}

// replaceErrorResponse returns the response to send instead of p, which net/http has written, and its status. It returns nil if
// p is not a complete error response of net/http's own.
func replaceErrorResponse(p []byte) (response []byte, status int) {
	line, ok := bytes.CutPrefix(p, []byte("HTTP/1.1 "))
	if !ok || len(line) < 3 {
		return nil, 0
	}
	status, err := strconv.Atoi(string(line[:3]))
	if err != nil || status < 400 || status > 599 {
		return nil, 0
	}
	replacement := invalidRequestProblems[status]
	if replacement == nil {
		replacement = problem.New(status, "http_request_error", "the request is invalid")
	}
	return replacement.AppendHTTP1(nil, time.Now()), status
}
