package grpc

import (
	"net/http"
	"strconv"
)

// CodeOf returns the code of a response in place of one with an HTTP status.
func CodeOf(status int) Code {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return ResourceExhausted
	case http.StatusRequestTimeout:
		return DeadlineExceeded
	case http.StatusBadRequest:
		return Internal
	}
	return Unavailable
}

var contentType = []string{mediaType}

// WriteStatus sends a trailers-only response: a header section with a status. message is plain ASCII, which needs no encoding. Fields that
// are already set stay.
func WriteStatus(w http.ResponseWriter, code Code, message string) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Grpc-Status"] = []string{strconv.Itoa(int(code))}
	h["Grpc-Message"] = []string{message}
	w.WriteHeader(http.StatusOK)
}
