package proxy

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
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
	held               []byte                       // read before the header section is sent
	heldErr            error                        // the error that came with held
	started            atomic.Bool                  // begin has been called; set after stream, which IsSilent reads on other goroutines
	waitingForUpstream atomic.Bool                  // the body waits for the upstream: until the first bytes are sent to the client, and during each read
	eof                atomic.Bool                  // the upstream's body has ended

	measuresClientWait bool         // writeStart and writeTime are maintained
	writeStart         atomic.Int64 // nanoseconds from the exchange's start to the write that is under way; 0: there is none
	writeTime          atomic.Int64 // nanoseconds spent in completed writes
}

func (b *responseBody) begin(a *attempt, res *http.Response, recorder fallbacks.Recorder) {
	b.attempt, b.res, b.body, b.recorder = a, res, res.Body, recorder
	b.stream, b.events, b.held, b.heldErr = false, nil, nil, nil
	b.watch.Store(nil)
	if a.x.route.UsesCallDuration {
		a.headerTime = a.elapsedWithoutClient()
	}
	b.writeStart.Store(0)
	b.writeTime.Store(0)
	if b.measuresClientWait = a.call.State == events.HalfOpen; b.measuresClientWait {
		a.call = a.call.WithRevocablePermit(a.x.clientTime)
	}
	a.noteAnswer()
	b.eof.Store(false)
	b.waitingForUpstream.Store(true) // until something is sent to the client
	b.started.Store(true)
}

func (b *responseBody) Read(p []byte) (int, error) {
	if len(b.held) > 0 || b.heldErr != nil {
		return b.readHeld(p)
	}
	return b.readUpstream(p)
}

func (b *responseBody) readUpstream(p []byte) (int, error) {
	x := b.attempt.x
	watch := b.watch.Load()
	if b.stream {
		x.ResetTimer(x.route.Config.IdleTimeout)
		watch.BeginRead()
	}
	b.waitingForUpstream.Store(true)
	b.setClientWait(false)
	n, err := b.readTimed(p)
	b.setClientWait(true)
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

// Sizes in bytes of what is read of a stream before its header section is sent.
const (
	heldBytes   = 4 << 10
	minHeldRead = 512 // the smallest buffer of a read
	// maxHeld is how much may be read before the first event.
	maxHeld = 64 << 10
)

// hold reads the stream's first bytes, or with a first_event_timeout up to its first event, before its header section is sent. It
// returns an error if the stream failed before that.
func (b *responseBody) hold() error {
	b.holding = true
	defer func() { b.holding = false }()
	b.held = make([]byte, 0, heldBytes)
	for {
		if cap(b.held)-len(b.held) < minHeldRead {
			b.held = slices.Grow(b.held, heldBytes)
		}
		n, err := b.readUpstream(b.held[len(b.held):cap(b.held)])
		b.held = b.held[:len(b.held)+n]
		b.waitingForUpstream.Store(true) // nothing has been sent to the client
		b.setClientWait(false)
		begun := len(b.held) > 0 && !b.watch.Load().AwaitsFirstEvent()
		switch {
		case err == nil && !begun && len(b.held) < maxHeld:
			continue
		case err != nil && err != io.EOF && !begun:
			return err
		}
		b.heldErr = err
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

// clientWait returns how long the exchange has waited for the client to take what has been read, if that is measured. now is the
// time since the exchange's start. Safe for concurrent use.
func (b *responseBody) clientWait(now time.Duration) time.Duration {
	waited := time.Duration(b.writeTime.Load())
	if since := b.writeStart.Load(); since != 0 {
		waited += max(now-time.Duration(since), 0)
	}
	return waited
}

// setClientWait records that the exchange waits for the client from now on, or no longer.
func (b *responseBody) setClientWait(waiting bool) {
	if !b.measuresClientWait {
		return
	}
	now := int64(time.Since(b.attempt.x.began))
	if since := b.writeStart.Swap(0); since != 0 {
		b.writeTime.Add(now - since)
	}
	if waiting {
		b.writeStart.Store(now)
	}
}
