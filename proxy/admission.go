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

// maxPrefetch is the size in bytes of the largest request body that is read before the request is admitted as a probe.
const maxPrefetch = 64 << 10

// allow asks the breaker to admit the next attempt. A probe that may have to wait for its request body can be replaced by
// another request meanwhile.
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

// admit is allow for the first attempt. In the half-open state a short request body is read first, so that a slow client does
// not occupy a probe's permit. ok is false if the body did not arrive and the request has been answered.
func (x *exchange) admit() (call breaker.Call, err error, ok bool) {
	call, err = x.allow()
	if call.State != events.HalfOpen || !x.mayPrefetch() {
		return call, err, true
	}
	call.Cancel()
	x.startTimer()
	if err := x.upload.prefetch(); err != nil {
		x.outcome.State, x.outcome.Result = call.State, events.ResultCancelled
		x.answerIncompleteUpload()
		return call, nil, false
	}
	call, err = x.allow()
	return call, err, true
}

// answerIncompleteUpload answers a request whose body was to be read before admission and did not arrive.
func (x *exchange) answerIncompleteUpload() {
	switch fault := x.upload.readError(); {
	case context.Cause(x) == errPaused:
		x.fallback(events.ReasonOverload)
	case context.Cause(x) == errSlowClient:
		x.problem(slowBody)
	case fault == errBodyTooLarge:
		x.problem(bodyTooLarge)
	case fault == nil && x.r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client is gone
	default:
		x.problem(badBody)
	}
}

// mayPrefetch reports whether the request's body is to be read before the request is admitted as a probe: it is short, the
// client sends it without waiting for a 100 (Continue), and the breaker can reject the request.
func (x *exchange) mayPrefetch() bool {
	c, n := &x.route.config.Breaker, x.r.ContentLength
	return c.Mode == "enforce" && c.Probe.Path == "" && n > 0 && n <= maxPrefetch && x.r.Header["Expect"] == nil && !x.upload.isComplete()
}

// clientTime returns how long the exchange has waited for its client: to send the request's body, and to take the response's.
// Safe for concurrent use.
func (x *exchange) clientTime() time.Duration {
	now := time.Since(x.began)
	waited := x.download.waited(now)
	if !x.upload.isComplete() {
		waited += x.upload.waited(now)
	}
	return waited
}

// isComplete reports whether all of the body has arrived. It may be false for one that has arrived but is not read yet. Safe
// for concurrent use.
func (b *requestBody) isComplete() bool {
	return b.body == nil || b.ended.Load() || http1.BodyReceived(b.body)
}

// waited returns how long the client was waited for, including a read that is under way. now is the time since the exchange's
// start. Safe for concurrent use.
func (b *requestBody) waited(now time.Duration) time.Duration {
	waited := time.Duration(b.waitTime.Load())
	if since := b.waitingSince.Load(); since != 0 {
		waited += max(now-time.Duration(since), 0)
	}
	return waited
}

// prefetch reads the whole body, which Read returns later. It is called before Read.
func (b *requestBody) prefetch() error {
	b.readMu.Lock()
	defer b.readMu.Unlock()
	b.reading.Store(true)
	defer b.reading.Store(false)
	const step = 4 << 10 // allocate little more than the client has sent
	var data []byte
	for {
		data = slices.Grow(data, int(min(step, b.x.r.ContentLength-int64(len(data))+1)))
		n, err := b.receive(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch err {
		case nil:
		case io.EOF:
			b.prefetched = data
			return nil
		default:
			return err
		}
	}
}

// waited returns how long the client was waited for to take what has been read, if that is measured. now is the time since the
// exchange's start. Safe for concurrent use.
func (b *responseBody) waited(now time.Duration) time.Duration {
	waited := time.Duration(b.taken.Load())
	if since := b.given.Load(); since != 0 {
		waited += max(now-time.Duration(since), 0)
	}
	return waited
}

// measure records that the exchange waits for the client from now on, or no longer.
func (b *responseBody) measure(given bool) {
	if !b.probes {
		return
	}
	now := int64(time.Since(b.attempt.x.began))
	if since := b.given.Swap(0); since != 0 {
		b.taken.Add(now - since)
	}
	if given {
		b.given.Store(now)
	}
}
