package grpc

import (
	"net/http"
	"strconv"
	"time"
)

// Pushback is what a server says about retries of a call, by the field grpc-retry-pushback-ms (gRFC A6, "Pushback").
type Pushback struct {
	// Given is whether the server says anything.
	Given bool
	// Retry is whether it asks for a retry, after Wait.
	Retry bool
	Wait  time.Duration
}

// ParsePushback returns what the trailers of a response say. A value that is negative or no number asks for no retry.
func ParsePushback(trailers http.Header) Pushback {
	values := trailers["Grpc-Retry-Pushback-Ms"]
	if len(values) == 0 {
		return Pushback{}
	}
	ms, err := strconv.ParseInt(values[0], 10, 32)
	if err != nil || ms < 0 || len(values) > 1 {
		return Pushback{Given: true}
	}
	return Pushback{Given: true, Retry: true, Wait: time.Duration(ms) * time.Millisecond}
}
