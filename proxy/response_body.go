package proxy

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/response"
	"cbproxy/internal/sse"
	"cbproxy/internal/stream"
)

// responseBody is an upstream's body on its way to the client. The attempt is reported at its end.
type responseBody struct {
	response.Body
	attempt  *attempt
	res      *http.Response
	events   *sse.Scanner                 // nil: no error events are configured
	recorder fallbacks.Recorder           // nil: the response is not recorded
	watch    atomic.Pointer[stream.Watch] // applies the route's stream limits; nil: there are none
}

func (b *responseBody) begin(a *attempt, res *http.Response, recorder fallbacks.Recorder, isStream bool) {
	b.attempt, b.res, b.recorder, b.events = a, res, recorder, nil
	b.watch.Store(nil)
	o := response.Options{Stream: isStream}
	if a.x.route.UsesCallDuration {
		a.headerTime = a.elapsedWithoutClient()
		o.Timed = !isStream
	}
	if a.call.State == events.HalfOpen {
		o.Start = a.x.began
		a.call = a.call.WithRevocablePermit(a.x.clientTime)
	}
	a.noteAnswer()
	b.Begin(b, res.Body, o)
}

// BeginRead implements response.Reader.
func (b *responseBody) BeginRead() {
	if b.IsStream() {
		x := b.attempt.x
		x.ResetTimer(x.route.Config.IdleTimeout)
		b.watch.Load().BeginRead()
	}
}

// EndRead implements response.Reader.
func (b *responseBody) EndRead(p []byte, took time.Duration, err error) {
	a, x := b.attempt, b.attempt.x
	a.bodyTime += took
	begun := false
	if b.IsStream() {
		begun = b.watch.Load().EndRead(p)
		x.ResetTimer(x.route.Config.IdleTimeout) // the client may take as long to read it
	}
	if b.events != nil {
		b.scan(p, err)
	}
	if b.recorder != nil && len(p) > 0 {
		b.recorder.Write(p)
	}
	switch err {
	case nil:
		if begun {
			a.streamBegun()
		}
	case io.EOF:
		a.removeTrailerFields(b.res) // unannounced trailers are known only at the end
		if x.grpc != nil && grpc.HasContentType(b.res.Header) {
			a.evaluateGRPCEnd(b.res)
		}
		a.reportSuccess()
		if a.failure == nil {
			fallbacks.RecordBody(b.recorder)
			b.recorder = nil
		}
	default:
		a.classify(err)
	}
	if err != nil {
		a.lease.Release()
	}
}

// streamBegun reports what the begin of a stream shows, which may have no end: the breaker has recovered if it is half-open, and the
// endpoint from an ejection. With a limit for the first event, that event is the begin.
func (a *attempt) streamBegun() {
	if a.failure != nil { // a status, or an event
		return
	}
	if a.call.State == events.HalfOpen {
		a.reportSuccess()
	}
	a.lease.StreamStarted()
}

// scan reports a failure of the upstream if p completes one of the route's error events. An event that is cut off by the end
// of the stream counts as well.
func (b *responseBody) scan(p []byte, err error) {
	name := b.events.Scan(p)
	if name == "" && err == io.EOF {
		name = b.events.End()
	}
	if name != "" {
		b.events = nil // at most one failure per stream
		b.attempt.reportFailure(events.ErrorSSE, fmt.Errorf("server-sent event %q", name))
	}
}
