// Package fault injects faults into requests to upstreams, on an operator's demand: responses with a status, delays, resets and
// responses that end early. A Set has the faults of one service.
package fault

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"cbproxy/internal/events"
)

// Fault is a fault that is or was in force. It is not modified after it has started. The methods of a nil *Fault do nothing to a
// request. They are safe for concurrent use.
type Fault struct {
	events.Fault
	set   *Set
	timer *time.Timer
	ended chan struct{} // closed when the fault ends
}

// RoundTrip sends r with next, with the fault.
//   - abort and reset: next is not called.
//   - delay: next is called after the delay, or when the fault ends if that is earlier. If the context of r ends first, its cause is
//     returned.
//   - cut: the body of the response of next ends early, with an error. A response without a body is not changed.
func (f *Fault) RoundTrip(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	if f == nil {
		return next(r)
	}
	switch f.Kind {
	case events.FaultAbort:
		f.count()
		return f.abort(r)
	case events.FaultReset:
		f.count()
		closeBody(r)
		return nil, f.failure(events.ErrorReset, "the connection was reset")
	case events.FaultDelay:
		f.count()
		if err := f.wait(r.Context()); err != nil {
			closeBody(r)
			return nil, err
		}
		return next(r)
	}
	res, err := next(r)
	if err != nil {
		return nil, err
	}
	f.cut(r, res)
	return res, nil
}

func (f *Fault) count() { f.set.injected[f.index()].Add(1) }

func (f *Fault) index() int {
	for i, kind := range events.FaultKinds {
		if kind == f.Kind {
			return i
		}
	}
	return 0 // not reached: Start accepts no other kind
}

// maxReadUpload is the size in bytes of the largest request body that an abort reads before it responds, as most upstreams do. The
// client's connection is then not closed.
const maxReadUpload = 64 << 10

// abort returns the response of an abort.
func (f *Fault) abort(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.ContentLength > 0 && r.ContentLength <= maxReadUpload && r.Header["Expect"] == nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			closeBody(r)
			return nil, fmt.Errorf("read the request's body: %w", err)
		}
	}
	closeBody(r)
	body := []byte(`{"detail":"fault ` + f.ID + ` is injected by an operator"}` + "\n")
	res := &http.Response{
		Status: strconv.Itoa(f.Status) + " " + http.StatusText(f.Status), StatusCode: f.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Cache-Control": {"no-store"}}, Body: http.NoBody, Request: r, // not for the cache of fallbacks, nor for clients'
	}
	if !bodyAllowed(f.Status) {
		return res, nil
	}
	res.Header["Content-Type"] = []string{"application/json"}
	res.Header["Content-Length"] = []string{strconv.Itoa(len(body))}
	if res.ContentLength = int64(len(body)); r.Method != http.MethodHead {
		res.Body = io.NopCloser(bytes.NewReader(body))
	}
	return res, nil
}

// bodyAllowed reports whether a response with a status can have a body.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// wait waits for the delay, or for the end of the fault or of ctx.
func (f *Fault) wait(ctx context.Context) error {
	timer := time.NewTimer(time.Duration(f.Delay))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// Describe returns text, the description of a failure of a request with the fault, with a note that the fault is the cause. The errors
// of resets and cuts have this note already.
func (f *Fault) Describe(text string) string {
	if f == nil || f.Kind != events.FaultAbort && f.Kind != events.FaultDelay {
		return text
	}
	return f.note() + ": " + text
}

func (f *Fault) note() string {
	what := string(f.Kind)
	if f.Kind == events.FaultDelay {
		what += " of " + f.Delay.String()
	}
	return "injected fault " + f.ID + " (" + what + ")"
}

// Labels returns the ID and the kind of the fault; "" if f is nil.
func (f *Fault) Labels() (id string, kind events.FaultKind) {
	if f == nil {
		return "", ""
	}
	return f.ID, f.Kind
}

// injectedError is a failure that a fault has caused.
type injectedError struct {
	kind events.ErrorType
	text string
}

// Error implements error.
func (e *injectedError) Error() string { return e.text }

// ErrorType returns the type of the failure.
func (e *injectedError) ErrorType() events.ErrorType { return e.kind }

func (f *Fault) failure(kind events.ErrorType, text string) error {
	return &injectedError{kind, f.note() + ": " + text}
}
