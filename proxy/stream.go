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

// isStream reports whether a response's end is not known from its start.
func isStream(res *http.Response) bool {
	return res.ContentLength < 0 || isEventStream(res.Header)
}

func isEventStream(h http.Header) bool {
	const kind = "text/event-stream"
	t := h.Get("Content-Type")
	return len(t) >= len(kind) && strings.EqualFold(t[:len(kind)], kind)
}

// judgeStream sets up a response whose end is not known. From now on the clock measures
// silence.
func (a *attempt) judgeStream(res *http.Response, lesson fallbacks.Recorder) error {
	x := a.x
	x.download.begin(a, res, lesson)
	x.download.stream = true
	x.idle.Store(true)
	if names := x.route.config.Breaker.SSEErrorEvents; len(names) > 0 && isEventStream(res.Header) && res.Header["Content-Encoding"] == nil {
		x.download.events = sse.NewScanner(names)
	}
	if x.route.config.StreamCommit == "first_byte" {
		if err := x.download.hold(); err != nil {
			return err
		}
	}
	if x.outcome.State == events.HalfOpen {
		a.succeeded() // a stream may last for ever, and its start proves the upstream alive
	}
	res.Body = &x.download
	return nil
}

// responseBody is an upstream's body on its way to the client. It is judged by its end.
type responseBody struct {
	attempt *attempt
	res     *http.Response
	body    io.ReadCloser
	stream  bool
	events  *sse.Scanner       // nil: nobody wants to know of the events in it
	lesson  fallbacks.Recorder // nil: nobody wants to learn from it
	ahead   []byte             // has been read before the client asked
	end     error              // came with ahead
	started atomic.Bool        // for the clock: the fields above are set
	reading atomic.Bool        // the upstream is awaited, and not the client
	ended   atomic.Bool        // nothing more comes of it

	probes bool         // the time for which the client is awaited is measured
	given  atomic.Int64 // nanoseconds of the exchange before the client was given what it has not taken yet; 0: it has
	taken  atomic.Int64 // nanoseconds that it took for what was before
}

func (b *responseBody) begin(a *attempt, res *http.Response, lesson fallbacks.Recorder) {
	b.attempt, b.res, b.body, b.lesson = a, res, res.Body, lesson
	b.stream, b.events, b.ahead, b.end = false, nil, nil, nil
	if a.x.route.timed {
		a.head = a.elapsed()
	}
	b.given.Store(0)
	b.taken.Store(0)
	if b.probes = a.call.State == events.HalfOpen; b.probes {
		a.call = a.call.Revocable(a.x.clientTime)
	}
	b.ended.Store(false)
	b.reading.Store(true) // until the client is given something
	b.started.Store(true)
}

func (b *responseBody) Read(p []byte) (int, error) {
	if len(b.ahead) > 0 || b.end != nil {
		return b.readAhead(p)
	}
	x := b.attempt.x
	if b.stream {
		x.setClock(x.route.config.IdleTimeout)
	}
	b.reading.Store(true)
	b.measure(false)
	n, err := b.readTimed(p)
	b.measure(true)
	b.reading.Store(false)
	if b.stream {
		x.setClock(x.route.config.IdleTimeout) // a client may take as long to take it
	}
	if b.events != nil {
		b.scan(p[:n], err)
	}
	if b.lesson != nil && n > 0 {
		b.lesson.Write(p[:n])
	}
	b.ended.Store(err != nil)
	switch err {
	case nil:
	case io.EOF:
		b.attempt.cleanTrailer(b.res) // unannounced ones have come with the end
		if x.grpc != nil && grpc.Is(b.res.Header) {
			b.attempt.judgeGRPCEnd(b.res)
		}
		b.attempt.succeeded()
		if b.attempt.failure == nil {
			learnt(b.lesson)
			b.lesson = nil
		}
	default:
		b.attempt.blame(err)
	}
	return n, err
}

// readTimed adds the time of the read to the attempt's, for a response that has an end.
func (b *responseBody) readTimed(p []byte) (int, error) {
	if b.stream || !b.attempt.x.route.timed {
		return b.body.Read(p)
	}
	start := time.Now()
	n, err := b.body.Read(p)
	b.attempt.body += time.Since(start)
	return n, err
}

// heldBytes is how much of a stream is read before its header section goes out.
const heldBytes = 4 << 10

// hold waits for the stream's first bytes, or its end. An error means that it broke off
// before it said anything.
func (b *responseBody) hold() error {
	buffer := make([]byte, heldBytes)
	for {
		n, err := b.Read(buffer)
		b.reading.Store(true) // the client is given nothing yet
		b.measure(false)
		if n == 0 && err == nil {
			continue
		}
		if n == 0 && err != io.EOF {
			return err
		}
		b.ahead, b.end = buffer[:n], err
		return nil
	}
}

func (b *responseBody) readAhead(p []byte) (int, error) {
	b.reading.Store(false)
	n := copy(p, b.ahead)
	if b.ahead = b.ahead[n:]; len(b.ahead) > 0 {
		return n, nil
	}
	b.ahead = nil
	return n, b.end
}

// silent reports whether it is a stream whose upstream is awaited. Safe for concurrent use.
func (b *responseBody) silent() bool {
	return b.started.Load() && b.stream && b.reading.Load() && !b.ended.Load()
}

func (b *responseBody) Close() error { return b.body.Close() }

// scan reports a failure of the upstream if p completes one of the route's error events. An event that the end of the
// stream cuts short counts as well.
func (b *responseBody) scan(p []byte, err error) {
	name := b.events.Scan(p)
	if name == "" && err == io.EOF {
		name = b.events.End()
	}
	if name != "" {
		b.events = nil // at most one failure per stream
		b.attempt.failed(events.ErrorSSE, fmt.Errorf("server-sent event %q", name))
	}
}
