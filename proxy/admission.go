package proxy

import (
	"context"
	"io"
	"net/http"
	"slices"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/http1"
)

// maxReadAhead is the size of a request body that is read before the request is admitted as a
// probe.
const maxReadAhead = 64 << 10

// allow asks the breaker for the exchange's next attempt. A probe whose request body may still
// have to be awaited can be replaced by another request meanwhile.
func (x *exchange) allow() (breaker.Call, error) {
	b := x.route.service.breaker
	if x.upload.isComplete() {
		return b.Allow()
	}
	call, err := b.AllowBeforeUpload()
	if call.State == events.HalfOpen {
		call = call.Revocable(x.clientTime)
	}
	return call, err
}

// admit is allow for the first attempt. In a half-open state a short request body is read
// before, so that no slow client has a probe's place. It reports false if the request has
// been answered, since its body did not come.
func (x *exchange) admit() (call breaker.Call, err error, ok bool) {
	call, err = x.allow()
	if call.State != events.HalfOpen || !x.readsAhead() {
		return call, err, true
	}
	call.Cancel()
	x.startClock()
	if err := x.upload.readAhead(); err != nil {
		x.outcome.State, x.outcome.Result = call.State, events.ResultCancelled
		x.answerUnsent()
		return call, nil, false
	}
	call, err = x.allow()
	return call, err, true
}

// answerUnsent answers a request whose body was to be read before it was admitted and did not come.
func (x *exchange) answerUnsent() {
	switch fault := x.upload.faulty(); {
	case context.Cause(x) == errPaused:
		x.fallback(events.ReasonOverload)
	case context.Cause(x) == errSlowClient:
		x.problem(slowBody)
	case fault == errBodyTooLarge:
		x.problem(bodyTooLarge)
	case fault == nil && x.r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // there is no client any more
	default:
		x.problem(badBody)
	}
}

// readsAhead reports whether the request's body is to be read before the request is admitted as
// a probe: it is short, its client sends it without being asked to, and the breaker's decision
// can depend on it.
func (x *exchange) readsAhead() bool {
	c, n := &x.route.config.Breaker, x.r.ContentLength
	return c.Mode == "enforce" && c.Probe.Path == "" && n > 0 && n <= maxReadAhead && x.r.Header["Expect"] == nil && !x.upload.isComplete()
}

// clientTime returns for how long the exchange has waited for its client, to send the request's body
// or to take the response's, 0 if it waits for the upstream only. Safe for concurrent use.
func (x *exchange) clientTime() time.Duration {
	now := time.Since(x.start)
	waited := x.download.waited(now)
	if !x.upload.isComplete() {
		waited += x.upload.waited(now)
	}
	return waited
}

// isComplete reports whether all of the body has come. It may be false for one that has, and of
// which not all has been read. Safe for concurrent use.
func (b *requestBody) isComplete() bool {
	return b.body == nil || b.ended.Load() || http1.BodyReceived(b.body)
}

// waited returns for how long the client has been awaited, in a read that is under way as well. now
// is the time since the exchange's start. Safe for concurrent use.
func (b *requestBody) waited(now time.Duration) time.Duration {
	waited := time.Duration(b.awaited.Load())
	if since := b.since.Load(); since != 0 {
		waited += max(now-time.Duration(since), 0)
	}
	return waited
}

// readAhead reads the whole body, for Read to return later. It is called before Read.
func (b *requestBody) readAhead() error {
	b.turn.Lock()
	defer b.turn.Unlock()
	b.reading.Store(true)
	defer b.reading.Store(false)
	const step = 4 << 10 // no more memory than the client has sent bytes for, or little more
	var data []byte
	for {
		data = slices.Grow(data, int(min(step, b.x.r.ContentLength-int64(len(data))+1)))
		n, err := b.receive(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch err {
		case nil:
		case io.EOF:
			b.ahead = data
			return nil
		default:
			return err
		}
	}
}

// waited returns for how long the client has been awaited to take what has been read, where that
// is measured. now is the time since the exchange's start. Safe for concurrent use.
func (b *responseBody) waited(now time.Duration) time.Duration {
	waited := time.Duration(b.taken.Load())
	if since := b.given.Load(); since != 0 {
		waited += max(now-time.Duration(since), 0)
	}
	return waited
}

// measure notes that the client is awaited from now on, or no longer.
func (b *responseBody) measure(given bool) {
	if !b.probes {
		return
	}
	now := int64(time.Since(b.attempt.x.start))
	if since := b.given.Swap(0); since != 0 {
		b.taken.Add(now - since)
	}
	if given {
		b.given.Store(now)
	}
}
