package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/sse"
)

// isStream reports whether a response has no length that is known from its header.
func isStream(res *http.Response) bool {
	return res.ContentLength < 0 || isEventStream(res.Header)
}

func isEventStream(h http.Header) bool {
	const kind = "text/event-stream"
	t := h.Get("Content-Type")
	return len(t) >= len(kind) && strings.EqualFold(t[:len(kind)], kind)
}

// evaluateStream prepares the evaluation of a stream. The timer measures silence from now on.
func (a *attempt) evaluateStream(res *http.Response, recorder fallbacks.Recorder) error {
	x := a.x
	x.download.begin(a, res, recorder)
	x.download.stream = true
	x.idleTimerActive.Store(true)
	if names := x.route.Config.Breaker.SSEErrorEvents; len(names) > 0 && isEventStream(res.Header) && res.Header["Content-Encoding"] == nil {
		x.download.events = sse.NewScanner(names)
	}
	if x.route.Config.StreamCommit == "first_byte" {
		if err := x.download.hold(); err != nil {
			return err
		}
	}
	if x.outcome.State == events.HalfOpen {
		a.reportSuccess() // a stream may last for ever; its start counts as a success
	}
	res.Body = &x.download
	return nil
}

// responseBody is an upstream's body on its way to the client. The attempt is reported at its end.
type responseBody struct {
	attempt            *attempt
	res                *http.Response
	body               io.ReadCloser
	stream             bool
	events             *sse.Scanner       // nil: no error events are configured
	recorder           fallbacks.Recorder // nil: the response is not recorded
	held               []byte             // read before the client's first read
	heldErr            error              // the error that came with prefetched
	started            atomic.Bool        // for the timer's goroutine: the fields above are set
	waitingForUpstream atomic.Bool        // a read of the upstream's body is under way
	eof                atomic.Bool        // there is no more

	measuresClientWait bool         // the time for which the client is waited for is measured
	writeStart         atomic.Int64 // nanoseconds from the exchange's start to the write that is under way; 0: there is none
	writeTime          atomic.Int64 // nanoseconds spent in completed writes
}

func (b *responseBody) begin(a *attempt, res *http.Response, recorder fallbacks.Recorder) {
	b.attempt, b.res, b.body, b.recorder = a, res, res.Body, recorder
	b.stream, b.events, b.held, b.heldErr = false, nil, nil, nil
	if a.x.route.UsesCallDuration {
		a.headerTime = a.elapsedWithoutClient()
	}
	b.writeStart.Store(0)
	b.writeTime.Store(0)
	if b.measuresClientWait = a.call.State == events.HalfOpen; b.measuresClientWait {
		a.call = a.call.WithRevocablePermit(a.x.clientTime)
	}
	b.eof.Store(false)
	b.waitingForUpstream.Store(true) // until something is sent to the client
	b.started.Store(true)
}

func (b *responseBody) Read(p []byte) (int, error) {
	if len(b.held) > 0 || b.heldErr != nil {
		return b.readHeld(p)
	}
	x := b.attempt.x
	if b.stream {
		x.resetTimer(x.route.Config.IdleTimeout)
	}
	b.waitingForUpstream.Store(true)
	b.setClientWait(false)
	n, err := b.readTimed(p)
	b.setClientWait(true)
	b.waitingForUpstream.Store(false)
	if b.stream {
		x.resetTimer(x.route.Config.IdleTimeout) // the client may take as long to read it
	}
	if b.events != nil {
		b.scan(p[:n], err)
	}
	if b.recorder != nil && n > 0 {
		b.recorder.Write(p[:n])
	}
	b.eof.Store(err != nil)
	switch err {
	case nil:
	case io.EOF:
		b.attempt.removeTrailerFields(b.res) // unannounced trailers are known only at the end
		if x.grpc != nil && grpc.Is(b.res.Header) {
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

// heldBytes is how much of a stream is read, in bytes, before its header section is sent.
const heldBytes = 4 << 10

// hold waits for the stream's first bytes, or its end. An error means that it broke off before the first byte.
func (b *responseBody) hold() error {
	buffer := make([]byte, heldBytes)
	for {
		n, err := b.Read(buffer)
		b.waitingForUpstream.Store(true) // nothing is sent to the client yet
		b.setClientWait(false)
		if n == 0 && err == nil {
			continue
		}
		if n == 0 && err != io.EOF {
			return err
		}
		b.held, b.heldErr = buffer[:n], err
		return nil
	}
}

func (b *responseBody) readHeld(p []byte) (int, error) {
	b.waitingForUpstream.Store(false)
	n := copy(p, b.held)
	if b.held = b.held[n:]; len(b.held) > 0 {
		return n, nil
	}
	b.held = nil
	return n, b.heldErr
}

// silent reports whether the body is a stream that waits for the upstream. Safe for concurrent use.
func (b *responseBody) isSilent() bool {
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

// waited returns how long the client was waited for to take what has been read, if that is measured. now is the time since the
// exchange's start. Safe for concurrent use.
func (b *responseBody) clientWait(now time.Duration) time.Duration {
	waited := time.Duration(b.writeTime.Load())
	if since := b.writeStart.Load(); since != 0 {
		waited += max(now-time.Duration(since), 0)
	}
	return waited
}

// measure records that the exchange waits for the client from now on, or no longer.
func (b *responseBody) setClientWait(given bool) {
	if !b.measuresClientWait {
		return
	}
	now := int64(time.Since(b.attempt.x.began))
	if since := b.writeStart.Swap(0); since != 0 {
		b.writeTime.Add(now - since)
	}
	if given {
		b.writeStart.Store(now)
	}
}
