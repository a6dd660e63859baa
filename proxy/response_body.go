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
	attempt            *attempt
	res                *http.Response
	body               io.ReadCloser
	stream             bool
	events             *sse.Scanner                 // nil: no error events are configured
	recorder           fallbacks.Recorder           // nil: the response is not recorded
	watch              atomic.Pointer[stream.Watch] // applies the route's stream limits; nil: there are none
	holding            bool                         // hold is running; not modified during a read
	held               response.Held                // read before the header section is sent
	started            atomic.Bool                  // begin has been called; set after stream, which IsSilent reads on other goroutines
	waitingForUpstream atomic.Bool                  // the body waits for the upstream: until the first bytes are sent to the client, and during each read
	eof                atomic.Bool                  // the upstream's body has ended

	clientWait response.ClientWait // relative to the exchange's start; measured for probes
}

func (b *responseBody) begin(a *attempt, res *http.Response, recorder fallbacks.Recorder) {
	b.attempt, b.res, b.body, b.recorder = a, res, res.Body, recorder
	b.stream, b.events, b.held = false, nil, response.Held{}
	b.watch.Store(nil)
	if a.x.route.UsesCallDuration {
		a.headerTime = a.elapsedWithoutClient()
	}
	isProbe := a.call.State == events.HalfOpen
	if b.clientWait.Reset(isProbe); isProbe {
		a.call = a.call.WithRevocablePermit(a.x.clientTime)
	}
	a.noteAnswer()
	b.eof.Store(false)
	b.waitingForUpstream.Store(true) // until something is sent to the client
	b.started.Store(true)
}

func (b *responseBody) Read(p []byte) (int, error) {
	if b.held.IsEmpty() {
		return b.readUpstream(p)
	}
	b.waitingForUpstream.Store(false)
	return b.held.Read(p)
}

func (b *responseBody) readUpstream(p []byte) (int, error) {
	x := b.attempt.x
	watch := b.watch.Load()
	if b.stream {
		x.ResetTimer(x.route.Config.IdleTimeout)
		watch.BeginRead()
	}
	b.waitingForUpstream.Store(true)
	b.clientWait.Set(false, x.began)
	n, err := b.readTimed(p)
	b.clientWait.Set(true, x.began)
	if b.stream {
		watch.EndRead(p[:n])
		x.ResetTimer(x.route.Config.IdleTimeout) // the client may take as long to read it
	}
	b.waitingForUpstream.Store(false)
	if b.events != nil {
		b.scan(p[:n], err)
	}
	if b.recorder != nil && n > 0 {
		b.recorder.Write(p[:n])
	}
	b.eof.Store(err != nil)
	switch err {
	case nil:
		if watch != nil && x.outcome.State == events.HalfOpen && !b.attempt.reported && !watch.AwaitsFirstEvent() {
			b.attempt.reportSuccess() // see evaluateStream
		}
	case io.EOF:
		b.attempt.removeTrailerFields(b.res) // unannounced trailers are known only at the end
		if x.grpc != nil && grpc.HasContentType(b.res.Header) {
			b.attempt.evaluateGRPCEnd(b.res)
		}
		b.attempt.reportSuccess()
		if b.attempt.failure == nil {
			recordBody(b.recorder)
			b.recorder = nil
		}
	default:
		b.attempt.classify(err)
	}
	return n, err
}

// readTimed adds the time of the read to the attempt's response time, if the response is no stream.
func (b *responseBody) readTimed(p []byte) (int, error) {
	if b.stream || !b.attempt.x.route.UsesCallDuration {
		return b.body.Read(p)
	}
	start := time.Now()
	n, err := b.body.Read(p)
	b.attempt.bodyTime += time.Since(start)
	return n, err
}

// hold reads the stream's first bytes, or with a first_event_timeout up to its first event, before its header section is sent. It
// returns an error if the stream failed before that.
func (b *responseBody) hold() error {
	b.holding = true
	defer func() { b.holding = false }()
	return b.held.Fill(func(p []byte) (int, error) {
		n, err := b.readUpstream(p)
		b.waitingForUpstream.Store(true) // nothing has been sent to the client
		b.clientWait.Set(false, b.attempt.x.began)
		return n, err
	}, func() bool { return !b.watch.Load().AwaitsFirstEvent() })
}

// IsSilent implements response.Body: it reports whether the body is a stream that waits for the upstream. Safe for concurrent use.
func (b *responseBody) IsSilent() bool {
	return b.started.Load() && b.stream && b.waitingForUpstream.Load() && !b.eof.Load()
}

func (b *responseBody) Close() error { return b.body.Close() }

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
